-- What Tongbu would need in a SQL Server source, for its DBA to read and run. Never run by us: no such server was at hand.
-- CDC itself is a change of the database that its owner has to want: SQL Server's own jobs copy each change into change tables.
-- Placeholders: {user} the capture user, {password} its password, {database} the database.

USE {database};
EXEC sys.sp_cdc_enable_db;
-- For each captured table; the role may read its change table.
-- EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'SO_SOMain', @role_name = N'tongbu_cdc', @supports_net_changes = 0;

-- The capture job polls every 5 seconds as it comes: no change can arrive sooner. 1 is the smallest @pollinginterval; 0 lets the
-- job go on without a pause, which costs a core's share of the server.
EXEC sys.sp_cdc_change_job @job_type = N'capture', @pollinginterval = 1;
EXEC sys.sp_cdc_stop_job @job_type = N'capture';
EXEC sys.sp_cdc_start_job @job_type = N'capture';
-- How long changes are kept, in minutes: a longer stop of capture is a loss.
EXEC sys.sp_cdc_change_job @job_type = N'cleanup', @retention = 10080;

CREATE LOGIN {user} WITH PASSWORD = {password};
CREATE USER {user} FOR LOGIN {user};
ALTER ROLE db_datareader ADD MEMBER {user};
-- ALTER ROLE tongbu_cdc ADD MEMBER {user};
GRANT VIEW DATABASE STATE TO {user};
ALTER DATABASE {database} SET ALLOW_SNAPSHOT_ISOLATION ON;
