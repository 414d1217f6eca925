//! Asks AWS what each dirty buyer holds and makes the database agree.
