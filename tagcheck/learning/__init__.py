"""Plain statistics that know no tag and no picture."""
