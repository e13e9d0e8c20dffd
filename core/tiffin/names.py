"""Names for containers that were given none: adjective_surname."""

from __future__ import annotations

import os

ADJECTIVES = """
able amber brave bright brisk calm candid careful cheerful clever cosy crisp curious daring
dapper eager earnest easy elegant fair famous fancy festive fluent fond frank fresh gentle glad
golden grand happy hardy honest humble jolly keen kind lively loyal lucid lucky mellow merry
mild modest neat nimble noble patient placid polite proud quick quiet rapid ready rosy sharp
shiny silent sincere smart snug sober spry steady still sturdy sunny swift tidy tranquil trusty
upbeat vivid warm wise witty young zesty
""".split()

SURNAMES = """
abel ada aiken alonzo ampere anning apgar archimedes babbage bartik blackburn boole bose braun
burnell carson cerf chandrasekhar cori curie dahl darwin dijkstra easley edison einstein elion
engelbart erdos euclid euler faraday fermat feynman floyd franklin galileo gauss germain goodall
hamilton hawking hertz hodgkin hopper huygens jackson jemison johnson joule kalam kay kepler
knuth kowalevski lamarr lamport leavitt leibniz liskov lovelace maxwell mayer mccarthy meitner
mendel mirzakhani moore morse naur neumann newton nobel noether northcutt ohm pascal pasteur
perlman planck raman ritchie rubin sammet shannon shockley sinoussi snyder stallman tesla
thompson torvalds turing volta wilson wing wirth wozniak wright yalow yonath
""".split()


def random_name() -> str:
    """For example `quiet_lovelace`; the caller tries again when it is in use."""
    number = int.from_bytes(os.urandom(4), "big")
    adjective = ADJECTIVES[number % len(ADJECTIVES)]
    return f"{adjective}_{SURNAMES[number // len(ADJECTIVES) % len(SURNAMES)]}"
