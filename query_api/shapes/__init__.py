"""The shapes of what is answered, as API.md fixes them; the contract is generated from them."""
