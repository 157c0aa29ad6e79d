"""From records to what people read: summary → tables → results (files), and the page (html_*)."""
