"""Stock of one product: units on hand, and the reservations that hold some of them."""
