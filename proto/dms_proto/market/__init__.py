"""The market as pure machines: comparing, ranking, the auction, the offer book and the capacity ledger."""
