-- Written by `make docs`
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE documents (
	number VARCHAR NOT NULL, 
	series VARCHAR NOT NULL, 
	year INTEGER NOT NULL, 
	sequence INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	is_scheduled BOOLEAN NOT NULL, 
	account_id VARCHAR NOT NULL, 
	subscription_id VARCHAR NOT NULL, 
	billing_month VARCHAR NOT NULL, 
	billing_date DATE NOT NULL, 
	issued_on DATE NOT NULL, 
	currency VARCHAR NOT NULL, 
	net BIGINT NOT NULL, 
	tax BIGINT NOT NULL, 
	total BIGINT NOT NULL, 
	corrects VARCHAR, 
	content TEXT NOT NULL, 
	content_hash VARCHAR NOT NULL, bucket SMALLINT DEFAULT '-1' NOT NULL, due_on DATE, credits_applied BIGINT, 
	PRIMARY KEY (number), 
	UNIQUE (series, year, sequence), 
	CONSTRAINT total_is_net_and_tax CHECK (total = net + tax), 
	CONSTRAINT sequence_counts_from_one CHECK (sequence > 0), 
	FOREIGN KEY(corrects) REFERENCES documents (number) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_documents_account_id ON documents (account_id);
CREATE INDEX ix_documents_billing_month ON documents (billing_month);
CREATE UNIQUE INDEX one_scheduled_document ON documents (subscription_id, billing_date) WHERE is_scheduled;
CREATE TABLE lines (
	number VARCHAR NOT NULL, 
	line INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	due_on DATE NOT NULL, 
	due_kind VARCHAR NOT NULL, 
	metric VARCHAR, 
	package VARCHAR, 
	cycle_start DATE, 
	cycle_end DATE, 
	quantity VARCHAR, 
	allowance VARCHAR, 
	excess VARCHAR, 
	billed_units VARCHAR, 
	unit_price VARCHAR, 
	amount BIGINT NOT NULL, 
	description TEXT NOT NULL, gives_back VARCHAR, due_item VARCHAR, rule VARCHAR, add_on VARCHAR, charge_id VARCHAR, coupon VARCHAR, applies_to_line INTEGER, tax_category VARCHAR, 
	PRIMARY KEY (number, line), 
	FOREIGN KEY(number) REFERENCES documents (number) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_lines_due_on ON lines (due_on);
CREATE TABLE taxes (
	number VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	country VARCHAR NOT NULL, 
	region VARCHAR, 
	rate VARCHAR NOT NULL, 
	taxable BIGINT NOT NULL, 
	amount BIGINT NOT NULL, 
	reason VARCHAR NOT NULL, taxed_as VARCHAR, category VARCHAR, exemption_reason TEXT, exemption_code VARCHAR, 
	PRIMARY KEY (number, position), 
	FOREIGN KEY(number) REFERENCES documents (number) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE closed_dates (
	subscription_id VARCHAR NOT NULL, 
	billing_date DATE NOT NULL, 
	account_id VARCHAR NOT NULL, 
	billing_month VARCHAR NOT NULL, 
	closing_package VARCHAR, 
	opening_package VARCHAR, 
	change_reason VARCHAR, 
	waiting_package VARCHAR, 
	closed_on DATE NOT NULL, bucket SMALLINT DEFAULT '-1' NOT NULL, 
	PRIMARY KEY (subscription_id, billing_date)
);
CREATE INDEX ix_closed_dates_billing_month ON closed_dates (billing_month);
CREATE TABLE closed_decisions (
	decision_id VARCHAR NOT NULL, 
	billing_month VARCHAR NOT NULL, 
	decision TEXT NOT NULL, 
	PRIMARY KEY (decision_id)
);
CREATE INDEX ix_closed_decisions_billing_month ON closed_decisions (billing_month);
CREATE TABLE issued_months (
	billing_month VARCHAR NOT NULL, 
	closed_through DATE NOT NULL, 
	PRIMARY KEY (billing_month)
);
CREATE TABLE files (
	number VARCHAR NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	bytes BIGINT NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(number) REFERENCES documents (number) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_documents_issued_on ON documents (issued_on);
CREATE TRIGGER documents_never_change BEFORE UPDATE ON documents WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'documents: what has been issued never changes'); END;
CREATE TRIGGER documents_stay BEFORE DELETE ON documents WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'documents: what has been issued stays'); END;
CREATE TRIGGER lines_never_change BEFORE UPDATE ON lines WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'lines: what has been issued never changes'); END;
CREATE TRIGGER lines_stay BEFORE DELETE ON lines WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'lines: what has been issued stays'); END;
CREATE TRIGGER taxes_never_change BEFORE UPDATE ON taxes WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'taxes: what has been issued never changes'); END;
CREATE TRIGGER taxes_stay BEFORE DELETE ON taxes WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'taxes: what has been issued stays'); END;
CREATE TRIGGER closed_dates_never_change BEFORE UPDATE ON closed_dates WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'closed_dates: what has been issued never changes'); END;
CREATE TRIGGER closed_dates_stay BEFORE DELETE ON closed_dates WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'closed_dates: what has been issued stays'); END;
CREATE TRIGGER closed_decisions_never_change BEFORE UPDATE ON closed_decisions WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'closed_decisions: what has been issued never changes'); END;
CREATE TRIGGER closed_decisions_stay BEFORE DELETE ON closed_decisions WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'closed_decisions: what has been issued stays'); END;
CREATE TRIGGER files_never_change BEFORE UPDATE ON files WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'files: what has been issued never changes'); END;
CREATE TRIGGER files_stay BEFORE DELETE ON files WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'files: what has been issued stays'); END;
CREATE TRIGGER documents_follow_in_time BEFORE INSERT ON documents WHEN NEW.issued_on < (SELECT MAX(issued_on) FROM documents) BEGIN SELECT RAISE(ABORT, 'documents: a later day has documents already'); END;
CREATE TRIGGER documents_agree_with_lines BEFORE INSERT ON documents WHEN NEW.net <> (SELECT COALESCE(SUM(amount), 0) FROM lines WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, 'documents: its lines do not add up to it'); END;
CREATE TRIGGER lines_come_before_their_document BEFORE INSERT ON lines WHEN EXISTS (SELECT 1 FROM documents WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, 'lines: its document has been issued'); END;
CREATE TRIGGER documents_agree_with_taxes BEFORE INSERT ON documents WHEN NEW.tax <> (SELECT COALESCE(SUM(amount), 0) FROM taxes WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, 'documents: its taxes do not add up to it'); END;
CREATE TRIGGER taxes_come_before_their_document BEFORE INSERT ON taxes WHEN EXISTS (SELECT 1 FROM documents WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, 'taxes: its document has been issued'); END;
CREATE TRIGGER issued_months_go_forward BEFORE UPDATE ON issued_months WHEN NEW.billing_month <> OLD.billing_month OR NEW.closed_through < OLD.closed_through BEGIN SELECT RAISE(ABORT, 'issued_months: a day that was closed stays closed'); END;
CREATE TRIGGER issued_months_stay BEFORE DELETE ON issued_months WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'issued_months: a day that was closed stays closed'); END;
CREATE INDEX ix_documents_corrects ON documents (corrects);
CREATE TABLE begun_subscriptions (
	subscription_id VARCHAR NOT NULL, 
	account_id VARCHAR NOT NULL, 
	request_id VARCHAR NOT NULL, 
	PRIMARY KEY (subscription_id)
);
CREATE TABLE passed_dates (
	account_id VARCHAR NOT NULL, 
	billing_month VARCHAR NOT NULL, 
	passed_through DATE NOT NULL, 
	PRIMARY KEY (account_id, billing_month, passed_through)
);
CREATE TABLE measured_deliveries (
	delivery_day DATE NOT NULL, 
	version INTEGER NOT NULL, 
	digest VARCHAR NOT NULL, 
	files TEXT NOT NULL, 
	PRIMARY KEY (delivery_day, version)
);
CREATE TABLE accepted_losses (
	delivery_day DATE NOT NULL, 
	file VARCHAR NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	first_day DATE NOT NULL, 
	last_day DATE NOT NULL, 
	accepted_on DATE NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (delivery_day, file, sha256)
);
CREATE TRIGGER begun_subscriptions_never_change BEFORE UPDATE ON begun_subscriptions BEGIN SELECT RAISE(ABORT, 'begun_subscriptions: what has been recorded stays'); END;
CREATE TRIGGER begun_subscriptions_stay BEFORE DELETE ON begun_subscriptions BEGIN SELECT RAISE(ABORT, 'begun_subscriptions: what has been recorded stays'); END;
CREATE TRIGGER passed_dates_never_change BEFORE UPDATE ON passed_dates BEGIN SELECT RAISE(ABORT, 'passed_dates: what has been recorded stays'); END;
CREATE TRIGGER passed_dates_stay BEFORE DELETE ON passed_dates BEGIN SELECT RAISE(ABORT, 'passed_dates: what has been recorded stays'); END;
CREATE TRIGGER measured_deliveries_never_change BEFORE UPDATE ON measured_deliveries BEGIN SELECT RAISE(ABORT, 'measured_deliveries: what has been recorded stays'); END;
CREATE TRIGGER measured_deliveries_stay BEFORE DELETE ON measured_deliveries BEGIN SELECT RAISE(ABORT, 'measured_deliveries: what has been recorded stays'); END;
CREATE TRIGGER accepted_losses_never_change BEFORE UPDATE ON accepted_losses BEGIN SELECT RAISE(ABORT, 'accepted_losses: what has been recorded stays'); END;
CREATE TRIGGER accepted_losses_stay BEFORE DELETE ON accepted_losses BEGIN SELECT RAISE(ABORT, 'accepted_losses: what has been recorded stays'); END;
CREATE TABLE redrawn_files (
	number VARCHAR NOT NULL, 
	redrawn_sha256 VARCHAR NOT NULL, 
	redrawn_on DATE NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	bytes BIGINT NOT NULL, 
	drawn_with TEXT NOT NULL, 
	PRIMARY KEY (number, redrawn_sha256), 
	FOREIGN KEY(number) REFERENCES documents (number) DEFERRABLE INITIALLY DEFERRED
);
CREATE TRIGGER redrawn_files_never_change BEFORE UPDATE ON redrawn_files BEGIN SELECT RAISE(ABORT, 'redrawn_files: what has been recorded stays'); END;
CREATE TRIGGER redrawn_files_stay BEFORE DELETE ON redrawn_files BEGIN SELECT RAISE(ABORT, 'redrawn_files: what has been recorded stays'); END;
CREATE TABLE settings (
	name VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TRIGGER settings_never_change BEFORE UPDATE ON settings WHEN EXISTS (SELECT 1 FROM issued_months) BEGIN SELECT RAISE(ABORT, 'settings: the settings under which something was issued stay'); END;
CREATE TRIGGER settings_stay BEFORE DELETE ON settings WHEN EXISTS (SELECT 1 FROM issued_months) BEGIN SELECT RAISE(ABORT, 'settings: the settings under which something was issued stay'); END;
CREATE TABLE opening_balances (
	account_id VARCHAR NOT NULL, 
	currency VARCHAR NOT NULL, 
	reference VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	amount BIGINT NOT NULL, 
	"on" DATE NOT NULL, 
	posted_on DATE NOT NULL, 
	PRIMARY KEY (account_id, currency, reference, version)
);
CREATE TABLE numberings (
	series VARCHAR NOT NULL, 
	year INTEGER NOT NULL, 
	format VARCHAR NOT NULL, 
	prefix VARCHAR NOT NULL, 
	suffix VARCHAR NOT NULL, 
	width INTEGER NOT NULL, 
	first INTEGER NOT NULL, 
	PRIMARY KEY (series, year)
);
CREATE TRIGGER opening_balances_never_change BEFORE UPDATE ON opening_balances WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'opening_balances: what has been recorded never changes'); END;
CREATE TRIGGER opening_balances_stay BEFORE DELETE ON opening_balances WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'opening_balances: what has been recorded stays'); END;
CREATE TRIGGER numberings_never_change BEFORE UPDATE ON numberings WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'numberings: what has been recorded never changes'); END;
CREATE TRIGGER numberings_stay BEFORE DELETE ON numberings WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'numberings: what has been recorded stays'); END;
CREATE TRIGGER documents_have_no_gap BEFORE INSERT ON documents WHEN NEW.sequence <> COALESCE((SELECT MAX(sequence) FROM documents WHERE series = NEW.series AND year = NEW.year), (SELECT first - 1 FROM numberings WHERE series = NEW.series AND year = NEW.year), 0) + 1 BEGIN SELECT RAISE(ABORT, 'documents: the next number of its series was expected'); END;
CREATE TRIGGER documents_bear_their_number BEFORE INSERT ON documents WHEN NEW.number <> COALESCE((SELECT prefix || printf('%0' || width || 'd', NEW.sequence) || suffix FROM numberings WHERE series = NEW.series AND year = NEW.year), printf('%s-%d-%06d', NEW.series, NEW.year, NEW.sequence)) BEGIN SELECT RAISE(ABORT, 'documents: its number is not that of its series, year and sequence'); END;
CREATE TABLE invoice_files (
	number VARCHAR NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	bytes BIGINT NOT NULL, 
	PRIMARY KEY (number), 
	FOREIGN KEY(number) REFERENCES documents (number) DEFERRABLE INITIALLY DEFERRED
);
CREATE TRIGGER invoice_files_never_change BEFORE UPDATE ON invoice_files BEGIN SELECT RAISE(ABORT, 'invoice_files: what has been recorded stays'); END;
CREATE TRIGGER invoice_files_stay BEFORE DELETE ON invoice_files BEGIN SELECT RAISE(ABORT, 'invoice_files: what has been recorded stays'); END;
CREATE TABLE mail_attempts (
	mail_id VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	account_id VARCHAR NOT NULL, 
	recipient VARCHAR, 
	message_id VARCHAR NOT NULL, 
	started_at VARCHAR NOT NULL, 
	PRIMARY KEY (mail_id, attempt)
);
CREATE TABLE mail_outcomes (
	mail_id VARCHAR NOT NULL, 
	attempt INTEGER NOT NULL, 
	outcome VARCHAR NOT NULL, 
	ended_at VARCHAR NOT NULL, 
	error TEXT, 
	PRIMARY KEY (mail_id, attempt)
);
CREATE TABLE reminders (
	reminder_id VARCHAR NOT NULL, 
	account_id VARCHAR NOT NULL, 
	reminded_on DATE NOT NULL, 
	level INTEGER NOT NULL, 
	oldest_document VARCHAR NOT NULL, 
	documents TEXT NOT NULL, 
	currency VARCHAR NOT NULL, 
	amount BIGINT NOT NULL, 
	content TEXT NOT NULL, 
	PRIMARY KEY (reminder_id), 
	UNIQUE (account_id, oldest_document, level)
);
CREATE TABLE reminder_fees (
	reminder_id VARCHAR NOT NULL, 
	account_id VARCHAR NOT NULL, 
	currency VARCHAR NOT NULL, 
	amount BIGINT NOT NULL, 
	charged_on DATE NOT NULL, 
	PRIMARY KEY (reminder_id)
);
CREATE TABLE mails_to_send (
	number VARCHAR NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TRIGGER mail_attempts_never_change BEFORE UPDATE ON mail_attempts BEGIN SELECT RAISE(ABORT, 'mail_attempts: what has been recorded stays'); END;
CREATE TRIGGER mail_attempts_stay BEFORE DELETE ON mail_attempts BEGIN SELECT RAISE(ABORT, 'mail_attempts: what has been recorded stays'); END;
CREATE TRIGGER mail_outcomes_never_change BEFORE UPDATE ON mail_outcomes BEGIN SELECT RAISE(ABORT, 'mail_outcomes: what has been recorded stays'); END;
CREATE TRIGGER mail_outcomes_stay BEFORE DELETE ON mail_outcomes BEGIN SELECT RAISE(ABORT, 'mail_outcomes: what has been recorded stays'); END;
CREATE TRIGGER reminders_never_change BEFORE UPDATE ON reminders BEGIN SELECT RAISE(ABORT, 'reminders: what has been recorded stays'); END;
CREATE TRIGGER reminders_stay BEFORE DELETE ON reminders BEGIN SELECT RAISE(ABORT, 'reminders: what has been recorded stays'); END;
CREATE TRIGGER reminder_fees_never_change BEFORE UPDATE ON reminder_fees BEGIN SELECT RAISE(ABORT, 'reminder_fees: what has been recorded stays'); END;
CREATE TRIGGER reminder_fees_stay BEFORE DELETE ON reminder_fees BEGIN SELECT RAISE(ABORT, 'reminder_fees: what has been recorded stays'); END;
CREATE TRIGGER mails_to_send_never_change BEFORE UPDATE ON mails_to_send BEGIN SELECT RAISE(ABORT, 'mails_to_send: what has been recorded stays'); END;
CREATE TRIGGER mails_to_send_stay BEFORE DELETE ON mails_to_send BEGIN SELECT RAISE(ABORT, 'mails_to_send: what has been recorded stays'); END;
CREATE TABLE profile_links (
	account_id VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	token VARCHAR NOT NULL, 
	PRIMARY KEY (account_id, version), 
	UNIQUE (token)
);
CREATE TRIGGER profile_links_never_change BEFORE UPDATE ON profile_links BEGIN SELECT RAISE(ABORT, 'profile_links: what has been recorded stays'); END;
CREATE TRIGGER profile_links_stay BEFORE DELETE ON profile_links BEGIN SELECT RAISE(ABORT, 'profile_links: what has been recorded stays'); END;
CREATE INDEX lines_with_items ON lines (due_on) WHERE due_item IS NOT NULL;
CREATE TABLE credit_uses (
	number VARCHAR NOT NULL, 
	position INTEGER NOT NULL, 
	grant_id VARCHAR NOT NULL, 
	amount BIGINT NOT NULL, 
	gives_back VARCHAR, 
	PRIMARY KEY (number, position), 
	FOREIGN KEY(number) REFERENCES documents (number) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ix_credit_uses_grant_id ON credit_uses (grant_id);
CREATE TRIGGER credit_uses_never_change BEFORE UPDATE ON credit_uses WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'credit_uses: what has been recorded stays'); END;
CREATE TRIGGER credit_uses_stay BEFORE DELETE ON credit_uses WHEN 1 = 1 BEGIN SELECT RAISE(ABORT, 'credit_uses: what has been recorded stays'); END;
CREATE TRIGGER documents_agree_with_credit_uses BEFORE INSERT ON documents WHEN COALESCE(NEW.credits_applied, 0) <> 0 AND NEW.credits_applied <> (SELECT COALESCE(SUM(amount), 0) FROM credit_uses WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, 'documents: its credits do not add up to it'); END;
CREATE TRIGGER credit_uses_come_before_their_document BEFORE INSERT ON credit_uses WHEN EXISTS (SELECT 1 FROM documents WHERE number = NEW.number) BEGIN SELECT RAISE(ABORT, 'credit_uses: its document has been issued'); END;
INSERT INTO alembic_version VALUES ('14');
