-- The ERP of the demo: an electronics trading company on tables shaped like Yonyou U8.
-- A subset of columns, names and meanings as U8 documents them; SQL Server's datetime is timestamp(3), bit is
-- boolean, money and decimals are numeric with U8's scales. Times have no zone: they are China's.

CREATE TABLE IF NOT EXISTS "Department" (
    "cDepCode" varchar(12) PRIMARY KEY,
    "cDepName" varchar(255) NOT NULL
);

CREATE TABLE IF NOT EXISTS "Person" (
    "cPersonCode" varchar(20) PRIMARY KEY,
    "cPersonName" varchar(40) NOT NULL,
    "cDepCode" varchar(12)
);

CREATE TABLE IF NOT EXISTS "Warehouse" (
    "cWhCode" varchar(10) PRIMARY KEY,
    "cWhName" varchar(20) NOT NULL
);

CREATE TABLE IF NOT EXISTS "Customer" (
    "cCusCode" varchar(20) PRIMARY KEY,
    "cCusName" varchar(98) NOT NULL,
    "cCusAbbName" varchar(60),
    "cCusRegCode" varchar(50),             -- 统一社会信用代码
    "cCusDefine1" varchar(20),             -- customer-defined column 1: credit grade A, B, C
    "iCusCreLine" numeric(20, 4),          -- 信用额度
    "cCusAddress" varchar(255),
    "cCusPhone" varchar(100),
    "cCusPerson" varchar(50),
    "dEndDate" timestamp(3),               -- 停用日期
    "cMemo" text
);

CREATE TABLE IF NOT EXISTS "Inventory" (
    "cInvCode" varchar(60) PRIMARY KEY,
    "cInvName" varchar(255) NOT NULL,
    "cInvStd" varchar(255),                -- 规格型号
    "cInvCCode" varchar(12),
    "cComUnitCode" varchar(35),
    "cInvDefine1" varchar(20),             -- brand
    "cInvDefine2" varchar(60),             -- manufacturer's part number
    "iInvSPrice" numeric(20, 4),
    "bPurchase" boolean NOT NULL DEFAULT true,
    "bSale" boolean NOT NULL DEFAULT true,
    "dSDate" timestamp(3)
);

CREATE TABLE IF NOT EXISTS "CurrentStock" (
    "AutoID" bigint PRIMARY KEY,
    "cWhCode" varchar(10) NOT NULL,
    "cInvCode" varchar(60) NOT NULL,
    "cBatch" varchar(60) NOT NULL DEFAULT '',
    "iQuantity" numeric(20, 4) NOT NULL DEFAULT 0,
    "fOutQuantity" numeric(20, 4),
    "fInQuantity" numeric(20, 4),
    "bStopFlag" boolean NOT NULL DEFAULT false,
    UNIQUE ("cWhCode", "cInvCode", "cBatch")
);

CREATE TABLE IF NOT EXISTS "SO_SOMain" (
    "ID" integer PRIMARY KEY,
    "cSOCode" varchar(30) NOT NULL UNIQUE,
    "dDate" timestamp(3) NOT NULL,
    "cSTCode" varchar(2),
    "cCusCode" varchar(20) NOT NULL,
    "cDepCode" varchar(12),
    "cPersonCode" varchar(20),
    "cexch_name" varchar(8) NOT NULL,
    "iExchRate" numeric(20, 6),
    "iTaxRate" numeric(10, 4),
    "iMoney" numeric(20, 4),               -- 定金, not the amount
    "iStatus" smallint,
    "cMaker" varchar(20),
    "cVerifier" varchar(20),               -- 审核人: set means approved
    "dverifydate" timestamp(3),
    "cCloser" varchar(20),                 -- 关闭人: set means closed
    "bReturnFlag" boolean NOT NULL DEFAULT false,
    "cMemo" varchar(255)
);

CREATE TABLE IF NOT EXISTS "SO_SODetails" (
    "AutoID" integer PRIMARY KEY,
    "iSOsID" integer NOT NULL,
    "ID" integer NOT NULL REFERENCES "SO_SOMain",
    "cSOCode" varchar(30) NOT NULL,
    "iRowNo" integer NOT NULL,
    "cInvCode" varchar(60) NOT NULL,
    "cInvName" varchar(255),
    "iQuantity" numeric(20, 4) NOT NULL,
    "iNum" numeric(20, 4),                 -- auxiliary quantity
    "cUnitID" varchar(35),
    "iQuotedPrice" numeric(20, 6),
    "iUnitPrice" numeric(20, 6),           -- net
    "iTaxUnitPrice" numeric(20, 6),        -- gross 含税单价
    "iMoney" numeric(20, 4) NOT NULL,      -- net
    "iTax" numeric(20, 4) NOT NULL,
    "iSum" numeric(20, 4) NOT NULL,        -- gross 价税合计
    "iNatMoney" numeric(20, 4),
    "iNatTax" numeric(20, 4),
    "iNatSum" numeric(20, 4),
    "iTaxRate" numeric(10, 4),
    "dPreDate" timestamp(3),
    "iFHQuantity" numeric(20, 4),          -- shipped
    "iKPQuantity" numeric(20, 4),          -- invoiced
    "cSCloser" varchar(20)
);
CREATE INDEX IF NOT EXISTS so_sodetails_id ON "SO_SODetails" ("ID");

CREATE TABLE IF NOT EXISTS "DispatchList" (
    "DLID" integer PRIMARY KEY,
    "cDLCode" varchar(30) NOT NULL,
    "dDate" timestamp(3) NOT NULL,
    "cCusCode" varchar(20) NOT NULL,
    "cSOCode" varchar(30),
    "cMaker" varchar(20)
);

CREATE TABLE IF NOT EXISTS "DispatchLists" (
    "AutoID" integer PRIMARY KEY,
    "DLID" integer NOT NULL REFERENCES "DispatchList",
    "iDLsID" integer NOT NULL,
    "iSOsID" integer,
    "cWhCode" varchar(10),
    "cInvCode" varchar(60) NOT NULL,
    "iQuantity" numeric(20, 4) NOT NULL,
    "fOutQuantity" numeric(20, 4)
);

CREATE TABLE IF NOT EXISTS "PU_AppVouch" (
    "ID" integer PRIMARY KEY,
    "cCode" varchar(30) NOT NULL UNIQUE,
    "dDate" timestamp(3) NOT NULL,
    "cDepCode" varchar(12),
    "cMaker" varchar(20),
    "cVerifier" varchar(20),
    "cAuditDate" timestamp(3),
    "cCloser" varchar(20),
    "cMemo" varchar(255)
);

CREATE TABLE IF NOT EXISTS "PU_AppVouchs" (
    "AutoID" integer PRIMARY KEY,
    "ID" integer NOT NULL REFERENCES "PU_AppVouch",
    "irowno" integer NOT NULL,
    "cInvCode" varchar(60) NOT NULL,
    "fQuantity" numeric(20, 4) NOT NULL,
    "iReceivedQTY" numeric(20, 4),
    "dRequirDate" timestamp(3),
    "cbCloser" varchar(20)
);
CREATE INDEX IF NOT EXISTS pu_appvouchs_id ON "PU_AppVouchs" ("ID");

CREATE TABLE IF NOT EXISTS "Ap_Vouch" (
    "Auto_ID" integer PRIMARY KEY,
    "cVouchType" varchar(10) NOT NULL,     -- R0 应收单, P0 应付单
    "cVouchID" varchar(30) NOT NULL UNIQUE,
    "dVouchDate" timestamp(3) NOT NULL,
    "cDwCode" varchar(20) NOT NULL,        -- customer
    "cOrderID" varchar(30),                -- sales order
    "cexch_name" varchar(8) NOT NULL,
    "iExchRate" numeric(20, 6),
    "iAmount_f" numeric(20, 4) NOT NULL,   -- original currency
    "iAmount" numeric(20, 4) NOT NULL,     -- local currency
    "iRAmount_f" numeric(20, 4) NOT NULL,  -- what remains
    "dPayDate" timestamp(3),
    "cOperator" varchar(20),
    "cCheckMan" varchar(20),               -- 审核人
    "cDigest" varchar(255)
);
