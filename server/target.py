"""Sizes as wishes: a width, a height or a number of megapixels into the factor that gives them.

Ours; the hosted gateway takes factors only. Pure arithmetic on sizes and the model's rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from upscale.engine.scaling import scaled
from upscale.errors import InvalidParameter, InvalidRequest
from upscale.models.catalogue import ScaleRule

_PIXELS = 1_000_000
# Factors are looked for in steps of a millionth: finer than a pixel of any side that is served.
_STEPS = 1_000_000
_DIGITS = Decimal("1e-12")


@dataclass(frozen=True)
class Target:
    """`width` and `height` are met to the pixel, `megapixels` is a most. None: not asked for."""

    width: int | None = None
    height: int | None = None
    megapixels: Decimal | None = None

    @property
    def wishes(self) -> dict[str, object]:
        """The fields that were sent, by name."""
        all_of_them = {
            "target_width": self.width,
            "target_height": self.height,
            "target_megapixels": self.megapixels,
        }
        return {name: value for name, value in all_of_them.items() if value is not None}

    def factor(self, width: int, height: int, rule: ScaleRule, asked: Decimal | None) -> Decimal:
        """The factor for an image of `width` x `height` by which every wish comes true.

        Raises InvalidParameter where the model has no such factor, InvalidRequest where the wishes
        contradict each other, or the factor `asked` for beside them.
        """
        if asked is not None:
            self.check(width, height, asked, "scale_factor")
            return asked
        if rule.kind == "choices":
            return self._chosen(width, height, rule)
        if self.width is None and self.height is None:
            return self._largest(width, height, rule)
        factor = self._exact(width, height)
        if factor is None:
            raise self._contradiction(width, height)
        if not rule.minimum <= factor <= rule.maximum:
            name, side = ("target_width", width) if self.width else ("target_height", height)
            raise InvalidParameter(
                name,
                self.wishes[name],
                f"{scaled(side, rule.minimum)} to {scaled(side, rule.maximum)} for this image of "
                f"{width} x {height} pixels (factor {rule.minimum} to {rule.maximum})",
            )
        if not self._met(width, height, factor):
            raise self._contradiction(width, height)
        return factor

    def check(self, width: int, height: int, factor: Decimal, why: str) -> None:
        """Raise InvalidRequest unless `factor`, which `why` decides, makes every wish true."""
        for name, value in self.wishes.items():
            if not Target(**{name.removeprefix("target_"): value})._met(width, height, factor):  # type: ignore[arg-type]
                raise InvalidRequest(
                    f"'{name}'={value} contradicts {why}={factor}, which makes "
                    f"{_size(width, height, factor)} of this image of {width} x {height} pixels. "
                    f"Leave one of them out.",
                    field=name,
                )

    def _met(self, width: int, height: int, factor: Decimal) -> bool:
        out_width, out_height = scaled(width, factor), scaled(height, factor)
        if self.megapixels is not None and out_width * out_height > self.megapixels * _PIXELS:
            return False
        return self.width in (None, out_width) and self.height in (None, out_height)

    def _exact(self, width: int, height: int) -> Decimal | None:
        """The factor that gives both sides, or the one that was asked for."""
        sides = Target(self.width, self.height)
        pairs = [(w, s) for w, s in ((self.width, width), (self.height, height)) if w is not None]
        half = Decimal("0.5")
        low = max((wish - half) / side for wish, side in pairs)
        high = min((wish + half) / side for wish, side in pairs)
        tries = [Decimal(wish) / side for wish, side in pairs] + [(low + high) / 2]
        return next((f for f in map(_plain, tries) if sides._met(width, height, f)), None)

    def _largest(self, width: int, height: int, rule: ScaleRule) -> Decimal:
        """The largest factor of a free rule that keeps within the megapixels."""
        low, high = int(rule.minimum * _STEPS), int(rule.maximum * _STEPS)
        if not self._met(width, height, Decimal(low) / _STEPS):
            least = scaled(width, rule.minimum) * scaled(height, rule.minimum)
            raise InvalidParameter(
                "target_megapixels",
                self.megapixels,
                f"{Decimal(least) / _PIXELS} or more for this image of {width} x {height} pixels "
                f"(factor {rule.minimum})",
            )
        while low < high:
            middle = (low + high + 1) // 2
            if self._met(width, height, Decimal(middle) / _STEPS):
                low = middle
            else:
                high = middle - 1
        found = Decimal(low) / _STEPS
        out = scaled(width, found), scaled(height, found)
        # The plainest factor that gives this size.
        tries = [Decimal(out[0]) / width, Decimal(out[1]) / height, found]
        allowed = [f for f in map(_plain, tries) if rule.minimum <= f <= rule.maximum]
        return next(f for f in allowed if (scaled(width, f), scaled(height, f)) == out)

    def _chosen(self, width: int, height: int, rule: ScaleRule) -> Decimal:
        fitting = [choice for choice in rule.choices if self._met(width, height, choice)]
        if fitting:
            return max(fitting)
        name, value = next(iter(self.wishes.items()))
        sizes = " or ".join(f"{_size(width, height, c)} (factor {c})" for c in rule.choices)
        raise InvalidParameter(
            name,
            value,
            f"for this image of {width} x {height} pixels a result of {sizes}",
        )

    def _contradiction(self, width: int, height: int) -> InvalidRequest:
        wishes = " and ".join(f"'{name}'={value}" for name, value in self.wishes.items())
        return InvalidRequest(
            f"{wishes} contradict each other: the image of {width} x {height} pixels keeps its "
            "shape. Leave all but one of them out.",
            field=next(iter(self.wishes)),
        )


def _plain(factor: Decimal) -> Decimal:
    return Decimal(format(factor.quantize(_DIGITS).normalize(), "f"))


def _size(width: int, height: int, factor: Decimal) -> str:
    return f"{scaled(width, factor)} x {scaled(height, factor)}"
