"""Which series a picture is from, or none of the owner's."""
