"""Equimodels: equivariant and diffusion representation models, and their mathematics. Needs torch, no platform."""
