"""Broken and hostile bytes, for the tests that feed them to readers."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# every example has files of its own
in_files = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture]
)

HOSTILE = (
    b'../', b'../../../etc/passwd', b'/etc/passwd', b'C:\\', b'..\\', b'~/',
    b'\x00', b'\xff', b'\xef\xbb\xbf', b'\r', b'\n', b'\n\n', b'\t', b' ',
    b'"', b',', b"'", b'=1+1', b'\x1b[2J', '\u2028'.encode(),
    '\u202e'.encode(), '\u0663'.encode(), b'NaN', b'-1', b'1e999',
    b'9' * 30, b'9' * 5000, b'[' * 3000, b'{}', b'null', b'[]', b'\\u0000',
    b'\\ud800',
)  # fmt: skip
KINDS = 'insert', 'flip', 'cut', 'lose', 'twice'


@st.composite
def mutations(draw, valid: bytes) -> bytes:
    """``valid`` after one to four faults of a disk, a network or an enemy."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(start + draw(st.integers(1, 40)), len(data))
        kind = draw(st.sampled_from(KINDS))
        if kind == 'insert':
            data[start:start] = draw(st.sampled_from(HOSTILE))
        elif kind == 'flip' and start < len(data):
            data[start] ^= draw(st.integers(1, 255))
        elif kind == 'cut':
            del data[start:]
        elif kind == 'lose':
            del data[start:stop]
        elif kind == 'twice':
            data[start:start] = data[start:stop]
    return bytes(data)
