"""The register of issued documents: a database whose rows never change."""
