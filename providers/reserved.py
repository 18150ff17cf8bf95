"""Fields that no route is sent unless it declares them: ours, and those with which a caller would
change how many results are made, their size or their price, or have the provider fetch something or
send it elsewhere. Knows no provider.
"""

from __future__ import annotations

import re

_OURS = """
    model models version provider providers user stream stream_output quality style background
    async response_format output_format output_compression image_format allow_resample dryrun expire
    prompt
"""
_RESULTS = """
    n num number count batch batches batch_size batch_count num_batches samples sample_count
    num_samples image_count images_count num_images num_outputs num_results num_generations
    num_variations num_frames number_of_images number_of_outputs number_of_results max_images
    images_per_prompt num_images_per_prompt variations outputs
"""
_SIZE = """
    size width height resolution megapixels image_size output_size output_width output_height
    output_resolution output_megapixels target_size target_width target_height target_resolution
    target_megapixels target_pixels max_size max_width max_height max_resolution max_megapixels
    scale scale_factor factor outscale upscale upscale_by upscale_factor upscaling_factor
    upscale_mode upscale_resolution downscale downscaling downscaling_resolution downscaling_factor
    resize aspect_ratio desired_increase
"""
_PRICE = "billing tier service_tier priority queue_priority speed sync_mode sync"
_SOURCES = """
    image images image_url image_urls image_uri image_data image_base64 image_b64 image_file
    image_bytes input inputs input_image input_images input_url input_urls input_file
    input_image_url input_image_urls init_image init_image_url source source_id source_url
    source_image source_image_url reference reference_image reference_images reference_image_url
    reference_image_urls control_image control_image_url mask mask_url mask_image mask_image_url
    img img_url url urls uri uris file files file_url video video_url gcs_uri lora loras lora_url
    lora_links lora_weights custom_sd_model replicate_weights weights
"""
_TARGETS = """
    storage storage_uri storage_url output_uri output_url output_path output_bucket output_gcs_uri
    upload_url upload_to bucket notify_url notification_url email
"""
_WORDS = ("webhook", "callback")


def plain_name(name: str) -> str:
    """A name without what spellings differ in: case, and what stands between its words."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


_NAMES = frozenset(
    plain_name(name)
    for names in (_OURS, _RESULTS, _SIZE, _PRICE, _SOURCES, _TARGETS)
    for name in names.split()
)


def is_reserved(name: str, value: object) -> bool:
    """Whether a field that a route does not declare stays here: by its name, or since its value
    leads somewhere.
    """
    plain, text = plain_name(name), str(value).strip().lower()
    leads = "://" in text or text.startswith(("data:", "//"))
    return plain in _NAMES or any(word in plain for word in _WORDS) or leads
