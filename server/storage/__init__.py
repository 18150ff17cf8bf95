"""Where results lie: on this machine's disk, or in an S3-compatible bucket.

A storage knows names, bytes and times. It knows nothing of links, life times, quotas or HTTP; that
is `media`'s. All its calls block, so they run in threads.
"""
