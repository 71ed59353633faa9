"""A certificate for loopback that nobody trusts, unless told to."""

import ssl
import tempfile
from pathlib import Path

# Made for these tests and used nowhere else: localhost, 127.0.0.1 and api.example.test, from 2020 to 2120.
_KEY = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdqEnzqa3UY2bCMgG
5fX4lL9IOHStpkQLGGhKxsSoVKOhRANCAAQnmx8XO6++quJeVGMBcc01AVMBi2lB
fAKdzHGpZQUssbTStuuhoPaOXSKzxFQtVogvoE8B9xERGXyXHuq6HVlK
-----END PRIVATE KEY-----
"""
_CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIBATAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA9wcmltZXBv
ZHMgdGVzdHMwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBoxGDAW
BgNVBAMMD3ByaW1lcG9kcyB0ZXN0czBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA
BCebHxc7r76q4l5UYwFxzTUBUwGLaUF8Ap3McallBSyxtNK266Gg9o5dIrPEVC1W
iC+gTwH3EREZfJce6rodWUqjcDBuMCwGA1UdEQQlMCOCCWxvY2FsaG9zdIcEfwAA
AYIQYXBpLmV4YW1wbGUudGVzdDAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQE
AwIChDAdBgNVHQ4EFgQUlOsNcmX98FNEH0T+x69u6MF+5k4wCgYIKoZIzj0EAwID
SAAwRQIhALPGaIMlCQDIKFziQFbl4gMW0aer+whSwanPEqqfvDq1AiB5oD+jTvfI
B9F1+/Nx4ak50DSLsfTGveVDqxPDRRj4xA==
-----END CERTIFICATE-----
"""


def server_context() -> ssl.SSLContext:
    """What a server needs that serves HTTPS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.pem"
        path.write_text(_KEY + _CERTIFICATE)
        context.load_cert_chain(path)
    return context


def client_context() -> ssl.SSLContext:
    """What a client needs that trusts it."""
    return ssl.create_default_context(cadata=_CERTIFICATE)
