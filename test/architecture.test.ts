import t from 'tap'
import { checkArrows, cycles, graphOf, importsOf, parseRules, readRules, readSources, violations } from '../scripts/check-arrows.ts'

void t.test('src/ obeys the arrows of docs/architecture.md', async t => {
  const rules = readRules()
  const sources = readSources()
  t.ok(rules.size >= 17, 'the table has all folders')
  t.ok(sources.size >= 20 && [...sources].some(([path, text]) => importsOf(path, text).length > 0), 'sources and imports are found')
  t.strictSame(checkArrows(rules, sources), [], 'no arrow beside the table, no cycle in it, none between folders')
})

void t.test('the checker sees what it must see', async t => {
  const rules = parseRules([
    '| folder | what lives there | may import |', '|---|---|---|',
    '| `spiffe` | domain | – |', '| `x509` | certificates | `spiffe` |',
    '| `ca` | signing | `x509`, `spiffe` |', '| `cli` | commands | all |'
  ].join('\n'))
  const check = (path: string, text: string) => violations(new Map([[path, text]]), rules)

  t.strictSame(check('src/ca/sign.ts', "import { a } from '../x509/a.ts'\nimport { b } from './b.ts'\nimport t from 'tap'"), [], 'allowed')
  t.strictSame(check('src/cli/commands/run.ts', "import { a } from '../../ca/a.ts'"), [], 'cli may import all')
  t.strictSame(check('src/x509/a.ts', "// import { s } from '../ca/s.ts'\n/*\n * from '../ca/s.ts'\n */"), [], 'comments are no imports')

  const forbidden = ['src/x509/a.ts: x509 may not import ca (../ca/sign.ts)']
  t.strictSame(check('src/x509/a.ts', "import { sign } from '../ca/sign.ts'"), forbidden, 'an import')
  t.strictSame(check('src/x509/a.ts', "import type {\n  Sign\n} from '../ca/sign.ts'"), forbidden, 'a type over several lines')
  t.strictSame(check('src/x509/a.ts', "export { sign } from '../ca/sign.ts'"), forbidden, 'a re-export')
  t.strictSame(check('src/x509/a.ts', "export * from '../ca/sign.ts'"), forbidden, 'a re-export of everything')
  t.strictSame(check('src/x509/a.ts', "import '../ca/sign.ts'"), forbidden, 'a side effect')
  t.strictSame(check('src/x509/a.ts', "const s = await import('../ca/sign.ts')"), forbidden, 'a dynamic import')
  t.strictSame(check('src/x509/a.ts', "let s: import('../ca/sign.ts').Sign"), forbidden, 'an import type')
  t.strictSame(check('src/x509/deep/a.ts', "import { sign } from '../../ca/sign.ts'").length, 1, 'from a deeper folder')
  t.strictSame(check('src/cli/a.ts', "import { f } from '../../test/fakes/clock.ts'"),
    ['src/cli/a.ts: imports from outside src (../../test/fakes/clock.ts)'], 'an import from test/')
  t.strictSame(check('src/extra/a.ts', ''), ['src/extra/a.ts: folder extra has no row'], 'a folder without a row')

  const circle = new Map([['src/a/1.ts', "import '../b/1.ts'"], ['src/b/1.ts', "import '../c/1.ts'"], ['src/c/1.ts', "import '../a/1.ts'"]])
  t.strictSame(cycles(graphOf(circle)), ['a → b → c → a'], 'a cycle between folders')
  const all = parseRules([
    '| folder | what lives there | may import |', '|---|---|---|', '| `a` | | `b` |', '| `b` | | `c`, `a` |', '| `c` | | all |'
  ].join('\n'))
  t.strictSame(checkArrows(all, circle), ['the table: a → b → a', 'src: a → b → c → a'], 'both are told')
})
