"""The page on which a person watches a camera with its scenes drawn over it.

The server relays: what camera agents tell of their cameras, and what the gateway answers for a picture. Drawing is the
browser's work.
"""
