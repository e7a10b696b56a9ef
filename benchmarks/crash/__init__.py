"""Runs that are killed at random moments and resumed: do they end as the uninterrupted ones?"""
