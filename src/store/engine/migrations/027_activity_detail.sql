-- What was decided or granted, as JSON, where the path does not say it.
ALTER TABLE activity ADD COLUMN detail TEXT;
