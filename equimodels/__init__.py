"""Equimodels: equivariant and diffusion representation models, and the mathematics under them. Needs torch, no platform."""
