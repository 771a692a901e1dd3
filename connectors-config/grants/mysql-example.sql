-- What Tongbu needs in a MySQL source (8.0), for its DBA to read and run.
-- Least privilege: reads the database and the binlog. No write, no DDL, no trigger; nor RELOAD, with which the binlog could be reset.
-- FLUSH_TABLES is for the connector's first snapshot alone (snapshot.locking.mode=minimal): a global read lock while it notes its
-- place in the binlog and reads the tables' columns. Take it away afterwards, if you like. Before 8.0.23 it is called RELOAD and can more.
-- Placeholders: {user} the capture user, {password} its password, {database} the captured database.
-- The server must log whole rows: binlog_format=ROW, binlog_row_image=FULL, binlog_row_metadata=FULL.

CREATE USER IF NOT EXISTS {user} IDENTIFIED BY {password};
ALTER USER {user} IDENTIFIED BY {password};
GRANT SELECT ON {database}.* TO {user};
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user};
GRANT FLUSH_TABLES ON *.* TO {user};
