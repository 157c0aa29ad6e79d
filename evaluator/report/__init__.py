"""From records to what people read: summary → tables, sentences → results, html."""
