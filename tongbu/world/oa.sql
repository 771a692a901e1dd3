-- The OA of the demo, on tables shaped like Weaver e-cology: dates and times are text, without a zone (China's).

CREATE TABLE IF NOT EXISTS hrmdepartment (
    id int PRIMARY KEY,
    departmentmark varchar(60),
    departmentname varchar(200) NOT NULL,
    subcompanyid1 int,
    supdepid int,
    showorder int,
    canceled char(1),
    departmentcode varchar(100)
);

CREATE TABLE IF NOT EXISTS hrmresource (
    id int PRIMARY KEY,
    loginid varchar(60),
    lastname varchar(60) NOT NULL,
    sex char(1),
    mobile varchar(60),
    email varchar(60),
    departmentid int,
    managerid int,
    jobtitle int,
    workcode varchar(60),
    status int,
    companystartdate char(10),
    workyear decimal(4, 2)
);

CREATE TABLE IF NOT EXISTS workflow_requestbase (
    requestid int PRIMARY KEY,
    workflowid int NOT NULL,
    requestname varchar(1000),
    creater int,
    createdate char(10),
    createtime char(8),
    lastoperator int,
    lastoperatedate char(10),
    lastoperatetime char(8),
    currentnodeid int,
    currentnodetype char(1),
    lastnodeid int,
    lastnodetype char(1),
    status varchar(500),
    requestlevel int,
    deleted int,
    currentstatus int,
    mainrequestid int
);

-- Form 17: approval of a sales order. Form 23: a business trip. Column names are the customer's, as always.
CREATE TABLE IF NOT EXISTS formtable_main_17 (
    id int PRIMARY KEY AUTO_INCREMENT,
    requestId int NOT NULL UNIQUE,
    ddbh varchar(30),
    khmc varchar(200),
    ddje decimal(20, 4),
    bz varchar(20),
    sqr int,
    sqrq char(10),
    shyj text
);

CREATE TABLE IF NOT EXISTS formtable_main_23 (
    id int PRIMARY KEY AUTO_INCREMENT,
    requestId int NOT NULL UNIQUE,
    sqr int,
    ccdd varchar(200),
    ksrq char(10),
    kssj char(5),
    jsrq char(10),
    jssj char(5),
    ccsy text,
    yjfy decimal(20, 4),
    ts decimal(10, 2)
);
