"""Write the JSON Schema of catalogue.yaml that the starting home ships, from the keys that the reader knows."""

from billing.inputs.catalogue_schema import catalogue_schema
from billing.starter import catalogue_schema_file

if __name__ == "__main__":
    catalogue_schema_file().write_text(catalogue_schema(), encoding="utf-8")
