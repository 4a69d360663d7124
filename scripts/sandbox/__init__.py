"""A payment service to develop and test against: Masumi's API for sellers, without a chain.

``python -m scripts.sandbox``. Own state, own clock; payments live by time (paid, confirmed,
expired, withdrawn) as on the real service, and faults can be ordered over ``/control``.
"""
