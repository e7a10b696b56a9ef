"""Damaged and hostile input: what do the readers make of it?"""
