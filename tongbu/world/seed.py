"""Master data of the demo world: the same on every machine, every company and person made up."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import psycopg

CUSTOMERS, PRODUCTS, EMPLOYEES, DEPARTMENTS = 200, 300, 60, 12
WAREHOUSES = ("WH01", "WH02", "WH03")

_PLACES = (
    "深圳市",
    "上海市",
    "苏州市",
    "东莞市",
    "杭州市",
    "成都市",
    "武汉市",
    "厦门市",
    "无锡市",
    "珠海市",
)
_BRANDS = (
    "云舟",
    "星栈",
    "蓝榕",
    "知微",
    "衡岳",
    "光迹",
    "北斛",
    "锐澜",
    "致远𠮷",
    "青禾",
    "万象",
    "瀚元",
)
_TRADES = ("电子科技", "半导体", "智能装备", "通信技术", "电子元器件", "自动化", "光电", "仪器仪表")
_PARTS = (
    ("贴片电阻", "R", "0402 1%"),
    ("贴片电容", "C", "0603 X7R 50V"),
    ("电感", "L", "4.7uH 3A"),
    ("晶振", "Y", "16MHz 10ppm"),
    ("肖特基二极管", "D", "40V 3A SMA"),
    ("MOS管", "Q", "30V 80A DFN5×6"),
    ("稳压芯片", "U", "3.3V 1A SOT-89"),
    ("微控制器", "M", "Cortex-M0+ 64KB"),
    ("连接器", "J", "2.54mm 10P"),
    ("继电器", "K", "12V 10A"),
)
_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨"
_GIVEN = ("子衿", "思齐", "明远", "若水", "景行", "怀瑾", "知秋", "望舒", "云起", "静姝")

_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def uscc(number: int) -> str:
    """Give a unified social credit code with a valid check digit (GB 32100-2015: weights 3^i mod 31)."""
    body = f"91440300MA5{number:06d}"
    total = sum(_ALPHABET.index(char) * pow(3, place, 31) for place, char in enumerate(body))
    return body + _ALPHABET[(31 - total % 31) % 31]


def erp(connection: psycopg.Connection[Any]) -> None:
    """Fill the ERP's master data, unless it is there."""
    if connection.execute('SELECT FROM "Customer" LIMIT 1').rowcount:
        return
    random = Random(20260101)
    cursor = connection.cursor()
    departments = [(f"D{n:02d}", f"业务{n}部") for n in range(1, DEPARTMENTS + 1)]
    cursor.executemany('INSERT INTO "Department" VALUES (%s, %s)', departments)
    people = [
        (f"P{n:03d}", person(n), f"D{n % DEPARTMENTS + 1:02d}") for n in range(1, EMPLOYEES + 1)
    ]
    cursor.executemany('INSERT INTO "Person" VALUES (%s, %s, %s)', people)
    warehouses = list(zip(WAREHOUSES, ("深圳总仓", "苏州分仓", "成都分仓"), strict=True))
    cursor.executemany('INSERT INTO "Warehouse" VALUES (%s, %s)', warehouses)
    customers = [_customer(number, random) for number in range(1, CUSTOMERS + 1)]
    cursor.executemany(_insert("Customer", len(customers[0])), customers)
    products = [_product(number, random) for number in range(1, PRODUCTS + 1)]
    cursor.executemany(_insert("Inventory", len(products[0])), products)
    stock = [_stock(number, random) for number in range(1, PRODUCTS * 2 + 1)]
    cursor.executemany(_insert("CurrentStock", len(stock[0])), stock)


def oa(connection: Any) -> None:
    """Fill the OA's people and departments, unless they are there."""
    random = Random(20260102)
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM hrmdepartment")
        if cursor.fetchone()[0]:
            return
        departments = [_department(number) for number in range(1, DEPARTMENTS + 1)]
        cursor.executemany(
            "INSERT INTO hrmdepartment VALUES (%s, %s, %s, %s, %s, %s, %s, %s)", departments
        )
        people = [_employee(number, random) for number in range(1, EMPLOYEES + 1)]
        places = ", ".join(["%s"] * len(people[0]))
        cursor.executemany(f"INSERT INTO hrmresource VALUES ({places})", people)
    connection.commit()


def person(number: int) -> str:
    """Give a made-up name."""
    return _SURNAMES[number % len(_SURNAMES)] + _GIVEN[number // len(_SURNAMES) % len(_GIVEN)]


def customer_name(number: int) -> str:
    """Give a made-up company name, the same for a number always."""
    place, brand = _PLACES[number % len(_PLACES)], _BRANDS[number // len(_PLACES) % len(_BRANDS)]
    return f"{place}{brand}{_TRADES[number * 7 % len(_TRADES)]}有限公司"


def product_name(number: int) -> str:
    """Give a product's name."""
    return f"{_PARTS[number % len(_PARTS)][0]} {number:04d}"


def _insert(table: str, columns: int) -> str:
    return f'INSERT INTO "{table}" VALUES ({", ".join(["%s"] * columns)})'


def _customer(number: int, random: Random) -> tuple[Any, ...]:
    name = customer_name(number)
    return (
        f"C{number:04d}",
        name,
        name[3:7],
        uscc(number) if number % 9 else None,
        random.choices("ABC", (3, 5, 2))[0],
        Decimal(random.randrange(0, 500)) * 1000 if number % 7 else None,
        f"{name[:3]}示例大道{number}号" if number % 5 else "",
        f"0755-0000{number:04d}",
        person(number),
        datetime(2025, 6, 30) if number % 41 == 0 else None,
        "重点客户 🚀" if number % 13 == 0 else None,
    )


def _product(number: int, random: Random) -> tuple[Any, ...]:
    name, letter, specification = _PARTS[number % len(_PARTS)]
    return (
        f"{letter}{number:05d}",
        product_name(number),
        specification,
        f"{number % len(_PARTS) + 1:02d}",
        "PCS",
        _BRANDS[number % len(_BRANDS)] if number % 4 else None,
        f"{letter}{number * 37 % 9999:04d}-{name[:1]}",
        Decimal(random.randrange(100, 900_000)) / 10_000,
        True,
        number % 50 != 0,
        datetime(2024, 1, 1) + timedelta(days=number),
    )


def product_code(number: int) -> str:
    """Give a product's code."""
    return f"{_PARTS[number % len(_PARTS)][1]}{number:05d}"


def _stock(number: int, random: Random) -> tuple[Any, ...]:
    product = (number - 1) % PRODUCTS + 1
    warehouse = WAREHOUSES[(number - 1) // PRODUCTS]
    lot = f"L{number:06d}" if number % 3 else ""
    return (
        number,
        warehouse,
        product_code(product),
        lot,
        Decimal(random.randrange(50_000)),
        None,
        None,
        False,
    )


def _department(number: int) -> tuple[Any, ...]:
    return (
        number,
        f"业务{number}",
        f"业务{number}部",
        1,
        None if number <= 3 else number % 3 + 1,
        number,
        None,
        f"D{number:02d}",
    )


def _employee(number: int, random: Random) -> tuple[Any, ...]:
    return (
        number,
        f"user{number:03d}",
        person(number),
        str(number % 2),
        f"1380000{number:04d}" if number % 6 else None,
        f"user{number:03d}@example.com",
        number % DEPARTMENTS + 1,
        None if number <= 3 else number % 3 + 1,
        number % 5 + 1,
        f"P{number:03d}",
        1,
        f"20{10 + number % 15}-0{number % 9 + 1}-15",
        Decimal(random.randrange(0, 3000)) / 100,
    )
