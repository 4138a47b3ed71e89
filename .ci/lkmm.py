#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks litmus tests against a kernel tree's own memory model.

    lkmm.py TOOLS_MEMORY_MODEL TEST.litmus...

herd7 is the tool for that, and .ci/litmus prefers it; but Debian 12 does not
have it. This does the same for what the tests here need: threads of marked
accesses and fences, in C's syntax. It enumerates all candidate executions and
asks the model which are allowed. The model is not repeated here: it is read from
linux-kernel.bell and linux-kernel.cat. Locks, RCU, atomics and plain accesses
are refused ("unsupported").

Each test says its expected result in a comment (`Result: Never`). The kernel's
own tests do too, which is how this program is tested.

Exit code 0: all as expected; 1: not; tests that are refused do not count.
"""
import itertools
import re
import sys


class Unsupported(Exception):
    """The test uses what this program does not know."""


# --- litmus tests -----------------------------------------------------------

TOKEN = re.compile(r"\s*(//[^\n]*|/\\|\\/|==|!=|&&|[A-Za-z_]\w*|\d+|.)", re.S)


def tokens(text):
    found = (m.group(1) for m in TOKEN.finditer(text))
    return [t for t in found if t.strip() and not t.startswith("//")]


class Litmus:
    """Initial values, threads as statements, condition, expected result."""

    def __init__(self, text):
        self.expected = re.search(r"Result:\s*(\w+)", text).group(1)
        text = re.sub(r"(?<!\w)\(\*.*?\*\)", "", text, flags=re.S)
        text = re.sub(r"locations \[.*?\]", "", text, flags=re.S)
        match = re.match(r"\s*C\s+(\S+)\s*\{(.*?)\}(.*?)exists(.*)\Z", text, re.S)
        if not match:
            raise Unsupported("not of the form C NAME { init } threads exists (...)")
        self.name, init, threads, condition = match.groups()
        self.init = {}
        for item in filter(None, (i.strip() for i in init.split(";"))):
            one = re.fullmatch(r"(?:int\s+)?(\w+)\s*=\s*(\d+)", item)
            if not one:
                raise Unsupported(f"initial value {item!r}")
            self.init[one.group(1)] = int(one.group(2))
        self.tokens = tokens(threads)
        self.threads = []
        while self.tokens:
            self.threads.append(self.thread())
        self.condition = Condition(tokens(condition))

    def take(self, wanted=None):
        token = self.tokens.pop(0)
        if wanted is not None and token != wanted:
            raise Unsupported(f"{token!r} where {wanted!r} was expected")
        return token

    def thread(self):
        if not re.fullmatch(r"P\d+", self.take()):
            raise Unsupported("no thread where one was expected")
        while self.take() != ")":
            pass
        return self.block()

    def block(self):
        self.take("{")
        body = []
        while self.tokens[0] != "}":
            body += self.statement()
        self.take("}")
        return body

    def location(self):
        if self.tokens[0] == "*":
            self.take()
        return self.take()

    def expression(self):
        """Sum of numbers and registers."""
        terms = [self.take()]
        while self.tokens[0] == "+":
            self.take()
            terms.append(self.take())
        for term in terms:
            if not re.fullmatch(r"\w+", term):
                raise Unsupported(f"expression with {term!r}")
        return terms

    def statement(self):
        word = self.take()
        if word == "int":
            while self.take() != ";":
                pass
            return []
        if word == "if":
            self.take("(")
            left, operator, right = self.expression(), "!=", ["0"]
            if self.tokens[0] in ("==", "!="):
                operator, right = self.take(), self.expression()
            self.take(")")
            then = self.block() if self.tokens[0] == "{" else self.statement()
            if self.tokens and self.tokens[0] == "else":
                raise Unsupported("else")
            return [("if", left, operator, right, then)]
        if word in ("smp_mb", "smp_wmb", "smp_rmb"):
            self.take("("), self.take(")"), self.take(";")
            return [("fence", word[4:].capitalize())]
        if word in ("WRITE_ONCE", "smp_store_release"):
            self.take("(")
            location = self.location()
            self.take(",")
            value = self.expression()
            self.take(")"), self.take(";")
            return [("write", location, value, "Once" if word == "WRITE_ONCE" else "Release")]
        if self.tokens[0] == "=":
            self.take()
            function = self.take()
            kinds = {"READ_ONCE": "Once", "smp_load_acquire": "Acquire"}
            if function not in kinds:
                raise Unsupported(function)
            self.take("(")
            location = self.location()
            self.take(")"), self.take(";")
            return [("read", word, location, kinds[function])]
        raise Unsupported(word)


class Condition:
    """`exists` with /\\, \\/, ~ and atoms `1:r0=1` or `x=1`."""

    def __init__(self, words):
        self.words = words
        self.tree = self.either()
        if self.words:
            raise Unsupported(f"condition beyond {self.words[:3]}")

    def either(self):
        parts = [self.both()]
        while self.words and self.words[0] == "\\/":
            self.words.pop(0)
            parts.append(self.both())
        return ("or", parts)

    def both(self):
        parts = [self.atom()]
        while self.words and self.words[0] == "/\\":
            self.words.pop(0)
            parts.append(self.atom())
        return ("and", parts)

    def atom(self):
        word = self.words.pop(0)
        if word == "~":
            return ("not", [self.atom()])
        if word == "(":
            inner = self.either()
            if self.words.pop(0) != ")":
                raise Unsupported("condition")
            return inner
        name = word
        if self.words[0] == ":":
            self.words.pop(0)
            name = (int(word), self.words.pop(0))
        if self.words.pop(0) != "=":
            raise Unsupported("condition")
        return ("is", name, int(self.words.pop(0)))

    def holds(self, values, tree=None):
        kind, *rest = tree or self.tree
        if kind == "is":
            return values.get(rest[0], 0) == rest[1]
        parts = (self.holds(values, part) for part in rest[0])
        return {"or": any, "and": all, "not": lambda p: not next(p)}[kind](parts)


class Event:
    """A read, a write or a fence."""

    def __init__(self, thread, kind, location=None, value=None, tags=()):
        self.thread, self.kind, self.location, self.value = thread, kind, location, value
        self.tags, self.data, self.ctrl = set(tags), set(), set()


def traces(number, body, domain):
    """All ways through a thread, each read giving any value of its location."""

    def run(todo, events, registers, control):
        if not todo:
            yield events, {(number, r): v for r, (v, _) in registers.items()}
            return
        (kind, *rest), todo = todo[0], todo[1:]

        def value(terms):
            known = [(int(t), set()) if t.isdigit() else registers.get(t, (0, set())) for t in terms]
            return sum(v for v, _ in known), set().union(*(s for _, s in known))

        def add(event):
            event.ctrl = set(control)
            return events + [event]

        if kind == "if":
            left, operator, right, then = rest
            (a, from_a), (b, from_b) = value(left), value(right)
            taken = (a == b) == (operator == "==")
            body = then if taken else []
            yield from run(body + todo, events, registers, control | from_a | from_b)
        elif kind == "fence":
            yield from run(todo, add(Event(number, "F", tags=rest)), registers, control)
        elif kind == "write":
            location, terms, tag = rest
            written, source = value(terms)
            event = Event(number, "W", location, written, [tag])
            event.data = source
            yield from run(todo, add(event), registers, control)
        else:
            register, location, tag = rest
            for read in sorted(domain.get(location, {0})):
                event = Event(number, "R", location, read, [tag])
                # By position: the event is copied into each execution anew.
                known = {**registers, register: (read, {len(events)})}
                yield from run(todo, add(event), known, control)

    yield from run(body, [], {}, set())


def executions(test):
    """Candidate executions: events, the base relations, the final values."""
    domain = {x: {v} for x, v in test.init.items()}
    while True:
        before = {x: set(v) for x, v in domain.items()}
        for number, body in enumerate(test.threads):
            for events, _ in traces(number, body, before):
                for event in events:
                    if event.location is not None:
                        domain.setdefault(event.location, {test.init.get(event.location, 0)})
                    if event.kind == "W":
                        domain[event.location].add(event.value)
        if domain == before:
            break
        if any(len(values) > 16 for values in domain.values()):
            raise Unsupported("values without a bound")
    ways = [list(traces(n, body, domain)) for n, body in enumerate(test.threads)]
    for choice in itertools.product(*ways):
        events = [Event(None, "W", x, test.init.get(x, 0), ["IW"]) for x in sorted(domain)]
        base = {name: set() for name in ("po", "data", "ctrl")}
        values = {}
        for thread, registers in choice:
            first = len(events)
            events += thread
            values.update(registers)
            for at, event in enumerate(thread):
                base["po"] |= {(first + before, first + at) for before in range(at)}
                base["data"] |= {(first + source, first + at) for source in event.data}
                base["ctrl"] |= {(first + source, first + at) for source in event.ctrl}
        number = range(len(events))
        writes = {x: [n for n in number if events[n].kind == "W" and events[n].location == x]
                  for x in domain}
        reads = [n for n in number if events[n].kind == "R"]
        sources = [[w for w in writes[events[r].location] if events[w].value == events[r].value]
                   for r in reads]
        orders = [[(w[0], *rest) for rest in itertools.permutations(w[1:])]
                  for w in writes.values()]
        for rf in itertools.product(*sources):
            for co in itertools.product(*orders):
                yield events, {
                    **base,
                    "rf": set(zip(rf, reads)),
                    "co": {pair for order in co for pair in itertools.combinations(order, 2)},
                }, {**values, **{events[o[-1]].location: events[o[-1]].value for o in co}}


# --- the model ----------------------------------------------------------------

CAT = re.compile(r"\s*(\(\*.*?\*\)|\"[^\"]*\"|\^-1|\+\+|\|\||'?[A-Za-z_][\w-]*|\d+|.)", re.S)
KEYWORDS = {"let", "flag", "acyclic", "irreflexive", "empty", "include", "show", "enum",
            "instructions", "with", "rec", "and", "in", "as"}
# Sets that tests without locks, RCU and atomics do not have.
EMPTY = """LKR LKW UL LF RL RU RMW Noreturn Barrier Rcu-lock Rcu-unlock Sync-rcu Before-atomic
After-atomic After-spinlock After-unlock-lock After-srcu-read-unlock Srcu-lock Srcu-unlock
Sync-srcu""".split()


class Model:
    """Statements of .bell and .cat files, as a list that is gone through for each execution."""

    def __init__(self, files):
        self.statements = []
        for file in files:
            with open(file, encoding="utf-8") as source:
                text = source.read()
            text = re.sub(r"^//[^\n]*", "", text)
            found = (m.group(1) for m in CAT.finditer(text))
            self.words = [w for w in found if w.strip() and not w.startswith("(*")]
            while self.words:
                self.statement()

    def peek(self):
        return self.words[0] if self.words else None

    def take(self, wanted=None):
        word = self.words.pop(0)
        if wanted is not None and word != wanted:
            raise ValueError(f"the model has {word!r} where {wanted!r} was expected")
        return word

    def statement(self):
        word = self.take()
        if word.startswith('"'):
            return
        if word in ("enum", "instructions", "include", "show"):
            while self.words and self.peek() not in KEYWORDS - {"and", "in", "as", "rec"}:
                self.take()
            return
        if word == "let":
            self.statements.append(("let", *self.bindings()))
            return
        warn = word == "flag"
        if warn:
            word = self.take()
        negated = word == "~"
        if negated:
            word = self.take()
        if word not in ("acyclic", "irreflexive", "empty"):
            raise ValueError(f"the model has {word!r} where a statement was expected")
        checked = self.union()
        self.take("as")
        name = self.take()
        # Flags warn of things that tests of marked accesses do not have.
        if not warn:
            self.statements.append(("check", word, negated, checked, name))

    def bindings(self):
        recursive = self.peek() == "rec"
        if recursive:
            self.take()
        found = []
        while True:
            name, argument = self.take(), None
            if self.peek() == "(":
                self.take()
                argument = self.take()
                self.take(")")
            self.take("=")
            found.append((name, argument, self.union()))
            if self.peek() != "and":
                return recursive, found
            self.take()

    def left(self, operator, inner):
        parts = [inner()]
        while self.peek() == operator:
            self.take()
            parts.append(inner())
        return parts[0] if len(parts) == 1 else (operator, parts)

    def union(self):
        return self.left("|", self.sequence)

    def sequence(self):
        return self.left(";", self.difference)

    def difference(self):
        return self.left("\\", self.intersection)

    def intersection(self):
        return self.left("&", self.product)

    def product(self):
        return self.left("*", self.postfix)

    def postfix(self):
        inner = self.prefix()
        while True:
            follows = self.words[1] if len(self.words) > 1 else ";"
            starts = re.match(r"[A-Za-z_(\[~{]", follows) and follows not in KEYWORDS
            if self.peek() in ("+", "?", "^-1") or self.peek() == "*" and not starts:
                inner = ("post" + self.take(), inner)
            else:
                return inner

    def prefix(self):
        word = self.take()
        if word == "~":
            return ("~", self.postfix())
        if word == "(":
            inner = self.union()
            self.take(")")
            return inner
        if word == "[":
            inner = self.union()
            self.take("]")
            return ("[]", inner)
        if word == "let":
            recursive, bound = self.bindings()
            self.take("in")
            return ("in", recursive, bound, self.union())
        if self.peek() == "(":
            self.take()
            inner = self.union()
            self.take(")")
            return ("call", word, inner)
        return ("name", word)

    def forbids(self, events, base):
        """The name of the first check that the execution fails; None if it is allowed."""
        everything = frozenset(range(len(events)))

        def those(wanted):
            return frozenset(n for n in everything if wanted(events[n]))

        def pairs(wanted):
            return frozenset((a, b) for a in everything for b in everything
                             if wanted(events[a], events[b]))

        env = {name: frozenset() for name in EMPTY}
        env.update({name: frozenset(pair) for name, pair in base.items()})
        env["R"], env["W"] = those(lambda e: e.kind == "R"), those(lambda e: e.kind == "W")
        env["M"] = env["R"] | env["W"]
        for tag in ("IW", "Once", "Release", "Acquire", "Mb", "Wmb", "Rmb"):
            env[tag] = those(lambda e, tag=tag: tag in e.tags)
        env["id"] = frozenset((n, n) for n in everything)
        env["loc"] = pairs(lambda a, b: a.location is not None and a.location == b.location)
        env["int"] = pairs(lambda a, b: a.thread is not None and a.thread == b.thread)
        env["ext"] = pairs(lambda a, b: a.thread is None or a.thread != b.thread)
        env["po-loc"] = env["po"] & env["loc"]
        env["fr"] = compose({(b, a) for a, b in env["rf"]}, env["co"])
        for name in ("rf", "co", "fr"):
            env[name + "e"], env[name + "i"] = env[name] & env["ext"], env[name] & env["int"]
        env["addr"] = env["rmw"] = frozenset()
        self.everything = everything
        for kind, *rest in self.statements:
            if kind == "let":
                self.bind(env, *rest)
            else:
                check, negated, tree, name = rest
                found = self.value(tree, env)
                if check == "empty":
                    good = not found
                elif check == "irreflexive":
                    good = all(a != b for a, b in found)
                else:
                    good = all(a != b for a, b in closure(found))
                if good == negated:
                    return name
        return None

    def bind(self, env, recursive, bound):
        if not recursive:
            env.update({name: (argument, tree, env.copy()) if argument else self.value(tree, env)
                        for name, argument, tree in bound})
            return
        env.update({name: frozenset() for name, _, _ in bound})
        while True:
            after = {name: self.value(tree, env) for name, _, tree in bound}
            if all(env[name] == found for name, found in after.items()):
                return
            env.update(after)

    def value(self, tree, env):
        kind, *rest = tree
        if kind == "name":
            return env[rest[0]] if rest[0] != "_" else self.everything
        if kind == "in":
            inner = dict(env)
            self.bind(inner, rest[0], rest[1])
            return self.value(rest[2], inner)
        if kind == "call":
            return self.call(rest[0], self.value(rest[1], env), env)
        if kind in ("|", ";", "\\", "&", "*"):
            first, *others = (self.value(part, env) for part in rest[0])
            for other in others:
                first = {
                    "|": lambda a, b: a | b,
                    "&": lambda a, b: a & b,
                    "\\": lambda a, b: a - b,
                    ";": compose,
                    "*": lambda a, b: frozenset(itertools.product(a, b)),
                }[kind](first, other)
            return first
        inner = self.value(rest[0], env)
        if kind == "[]":
            return frozenset((n, n) for n in inner)
        if kind == "~":
            return self.everything - inner
        if kind == "post^-1":
            return frozenset((b, a) for a, b in inner)
        if kind == "post?":
            return inner | env["id"]
        return closure(inner) | (env["id"] if kind == "post*" else frozenset())

    def call(self, name, argument, env):
        if name == "domain":
            return frozenset(a for a, _ in argument)
        if name == "range":
            return frozenset(b for _, b in argument)
        if name == "fencerel":
            return compose(frozenset((a, b) for a, b in env["po"] if b in argument), env["po"])
        formal, tree, scope = env[name]
        return self.value(tree, {**scope, formal: argument})


def compose(first, second):
    after = {}
    for a, b in second:
        after.setdefault(a, set()).add(b)
    return frozenset((a, c) for a, b in first for c in after.get(b, ()))


def closure(relation):
    found = frozenset(relation)
    while True:
        more = found | compose(found, found)
        if more == found:
            return found
        found = more


# --- the command --------------------------------------------------------------

def verdict(model, test):
    """Never, Sometimes or Always; executions allowed, and those with the condition."""
    allowed = positive = 0
    for events, base, values in executions(test):
        if model.forbids(events, base) is None:
            allowed += 1
            positive += test.condition.holds(values)
    if not allowed:
        raise Unsupported("no execution is allowed")
    result = "Never" if not positive else "Always" if positive == allowed else "Sometimes"
    return result, allowed, positive


def main(folder, files):
    model = Model([f"{folder}/linux-kernel.bell", f"{folder}/linux-kernel.cat"])
    wrong = done = 0
    for file in files:
        name = file.rsplit("/", 1)[-1].removesuffix(".litmus")
        try:
            with open(file, encoding="utf-8") as source:
                test = Litmus(source.read())
            result, allowed, positive = verdict(model, test)
        except (Unsupported, KeyError, IndexError, AttributeError) as why:
            print(f"{name:<52} unsupported: {why}")
            continue
        done += 1
        wrong += result != test.expected
        note = "" if result == test.expected else f"  EXPECTED {test.expected}"
        print(f"{name:<52} {result:<9} {positive} of {allowed} executions{note}")
    print(f"{done} checked, {wrong} not as expected, {len(files) - done} unsupported")
    return 1 if wrong or not done else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
