-- What Tongbu needs in a MariaDB source, for its DBA to read and run (MySQL: mysql-example.sql).
-- Least privilege: reads the database and the binlog, nothing else. No write, no DDL, no trigger, no global lock
-- (the connector runs with snapshot.locking.mode=none).
-- Placeholders: {user} the capture user, {password} its password, {database} the captured database.
-- The server must log whole rows: binlog_format=ROW, binlog_row_image=FULL, binlog_row_metadata=FULL,
-- gtid_strict_mode=1, binlog_legacy_event_pos=1 (else rows inside a transaction can't be ordered).

CREATE USER IF NOT EXISTS {user} IDENTIFIED BY {password};
ALTER USER {user} IDENTIFIED BY {password};
GRANT SELECT ON {database}.* TO {user};
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user};
