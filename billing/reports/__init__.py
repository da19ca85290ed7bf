"""What people read: explain, preview, verify, check, show, profiles and the month report."""
