-- of a buyer's marks, the newest behind which somebody waits: a sign-up, or the seller naming the buyer
ALTER TABLE buyers ADD COLUMN request_mark INTEGER;
