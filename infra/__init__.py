"""Everything that is not the business: ports, runtime, adapters, servers, composition, verbs."""
