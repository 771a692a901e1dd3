-- What the harness writes: an order and its lines, in one statement and so in one transaction.
-- Everything follows from the number, so that source and targets can be compared by it.
CREATE OR REPLACE FUNCTION bench_order(number integer, lines integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO "SO_SOMain" ("ID", "cSOCode", "dDate", "cSTCode", "cCusCode", "cDepCode", "cPersonCode", "cexch_name",
    "iExchRate", "iTaxRate", "iStatus", "cMaker", "cMemo")
  VALUES (number, 'SO' || lpad(number::text, 8, '0'), timestamp '2026-01-05' + number % 300 * interval '1 day', '01',
    'C' || lpad((number % 200 + 1)::text, 4, '0'), 'D01', 'P001', CASE number % 10 WHEN 8 THEN '美元' WHEN 9 THEN '欧元'
    ELSE '人民币' END, 1, 13, 0, '王子衿', CASE number % 10 WHEN 0 THEN '加急 📦' END);
  INSERT INTO "SO_SODetails" ("AutoID", "iSOsID", "ID", "cSOCode", "iRowNo", "cInvCode", "cInvName", "iQuantity",
    "cUnitID", "iQuotedPrice", "iUnitPrice", "iTaxUnitPrice", "iMoney", "iTax", "iSum", "iNatMoney", "iNatTax", "iNatSum",
    "iTaxRate", "dPreDate", "iFHQuantity")
  SELECT number * 20 + line, number * 20 + line, number, 'SO' || lpad(number::text, 8, '0'), line,
    substr('RCLYDQUMJK', product % 10 + 1, 1) || lpad(product::text, 5, '0'), '贴片电容 C' || line, (number % 500 + 1) * line, 'PCS',
    price, price, price * 1.13, (number % 500 + 1) * line * price, (number % 500 + 1) * line * price * 0.13,
    (number % 500 + 1) * line * price * 1.13, (number % 500 + 1) * line * price,
    (number % 500 + 1) * line * price * 0.13, (number % 500 + 1) * line * price * 1.13, 13,
    timestamp '2026-02-01' + number % 300 * interval '1 day', 0
  FROM (SELECT line, (number % 4999 + line)::numeric / 100 AS price, (number + line) % 300 + 1 AS product FROM generate_series(1, lines) line) priced;
END $$;
