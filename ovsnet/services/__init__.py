"""Services by the API's own words: pure functions of the model's values."""
