"""The shops: products, stock, carts, checkouts, payments and orders."""
