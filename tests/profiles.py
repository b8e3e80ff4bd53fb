"""ICC profiles, written by the rules of ICC.1:2010, and the same colours by arithmetic."""

import struct

import numpy as np

# Linear Display P3 to linear sRGB, both D65 (CSS Color 4, section 18: a product of its two matrices).
P3_TO_SRGB = np.array(
    [[1.2249401763, -0.2249401763, 0], [-0.0420569547, 1.0420569547, 0], [-0.0196375546, -0.0786360456, 1.0982736001]]
)
_P3 = {"r": (0.51512, 0.2412, -0.00105), "g": (0.29198, 0.69225, 0.04189), "b": (0.1571, 0.06657, 0.78407)}  # to D50
_SRGB = {"r": (0.43607, 0.22249, 0.01392), "g": (0.38515, 0.71687, 0.09708), "b": (0.14307, 0.06061, 0.7141)}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def _fixed(*numbers):
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _profile(space, tags):
    tags = {**tags, "wtpt": b"XYZ " + bytes(4) + _fixed(0.9642, 1, 0.8249)}
    names = {"desc": b"text", "cprt": b"none"}
    tags |= {
        name: b"mluc"
        + bytes(4)
        + struct.pack(">2I2s2s2I", 1, 12, b"en", b"US", 2 * len(text), 28)
        + text.decode().encode("utf-16-be")
        for name, text in names.items()
    }
    table, body, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name.encode() + struct.pack(">2I", at + len(body), len(content))
        body += content
    head = struct.pack(">I4xI4s4s4s12x4s28x", at + len(body), 0x04200000, b"mntr", space, b"XYZ ", b"acsp")
    head += _fixed(0.9642, 1, 0.8249)
    return head + bytes(128 - len(head)) + table + body


def _curve(gamma):
    numbers = _SRGB_CURVE if gamma is None else (gamma,)
    return b"para" + bytes(4) + struct.pack(">HH", 3 if gamma is None else 0, 0) + _fixed(*numbers)


def rgb_profile(primaries=_P3, gamma=None):
    """A profile of three primaries: Display P3 unless given, with sRGB's curve unless a gamma is given."""
    tags = {f"{name}XYZ": b"XYZ " + bytes(4) + _fixed(*xyz) for name, xyz in primaries.items()}
    return _profile(b"RGB ", {**tags, **{f"{name}TRC": _curve(gamma) for name in primaries}})


def srgb_profile():
    return rgb_profile(_SRGB)


def gray_profile(gamma):
    return _profile(b"GRAY", {"kTRC": _curve(gamma)})


def to_linear(srgb):
    """0 to 255 to [0, 1] (IEC 61966-2-1)."""
    x = np.asarray(srgb) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def from_linear(linear):
    """[0, 1] to 0 to 255, not rounded; what sRGB cannot show is clipped."""
    x = np.clip(linear, 0, 1)
    return 255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def p3_to_srgb(colour):
    """(3,) values of 0 to 255 in Display P3 as those of sRGB, by the formulas of CSS Color 4."""
    return from_linear(P3_TO_SRGB @ to_linear(colour))
