-- What Tongbu needs in a PostgreSQL source, for its DBA to read and run as a superuser in the ERP's database.
-- Least privilege: reads the captured tables and the log, nothing else. No write, no DDL, no trigger.
-- Placeholders: {user} the capture user, {password} its password, {database} the database, {owner} the owner of
-- the tables, {tables} the captured tables. Where a table has no primary key its own UPDATEs would fail once it is
-- published: give it one, or REPLICA IDENTITY FULL, first.

DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {user_text}) THEN CREATE ROLE {user}; END IF;
END $do$;
ALTER ROLE {user} LOGIN REPLICATION PASSWORD {password};
GRANT CONNECT ON DATABASE {database} TO {user};
GRANT USAGE ON SCHEMA public TO {user};
GRANT SELECT ON {tables} TO {user};

-- The publication belongs to the owner of the tables. Debezium is told not to make one (publication.autocreate.mode=disabled).
DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'tongbu') THEN CREATE PUBLICATION tongbu WITH (publish_via_partition_root = true); END IF;
END $do$;
ALTER PUBLICATION tongbu SET TABLE {tables};
ALTER PUBLICATION tongbu OWNER TO {owner};
