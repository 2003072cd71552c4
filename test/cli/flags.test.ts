import fc from 'fast-check'
import t from 'tap'
import { defineCommand, type CommandGroup } from '../../src/cli/command.ts'
import {
  choiceFlag, commaListFlag, durationFlag, instantFlag, numberFlag, secondsFlag, selectorListFlag, spiffeIdFlag, switchFlag, textFlag,
  textListFlag, trustDomainFlag
} from '../../src/cli/flag.ts'
import { parseFlags } from '../../src/cli/parse-flags.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { anyText } from '../fakes/arbitraries.ts'
import { holds, unlessRefused } from '../fakes/holds.ts'
import { createTestTerminal } from '../fakes/terminal.ts'

const command = defineCommand({
  flags: {
    spiffeID: spiffeIdFlag('an ID'),
    name: textFlag('a name'),
    dns: textListFlag('names', 'NAME'),
    audience: commaListFlag('audiences', 'NAME'),
    selector: selectorListFlag('selectors'),
    admin: switchFlag('a switch'),
    banned: switchFlag('a switch with three states', { orUnset: true }),
    port: numberFlag('a port', { minimum: 1 }),
    ttl: secondsFlag('a ttl'),
    timeout: durationFlag('a timeout', 5_000, '5s'),
    at: instantFlag('a time'),
    'trust-domain': trustDomainFlag('a domain'),
    output: choiceFlag('a form', ['pretty', 'json'], 'pretty')
  },
  argument: { name: 'FILE', optional: true },
  examples: ['assay try'],
  run: async () => 0
})

const parse = (...words: string[]) => parseFlags(command, words)

void t.test('flags are Go\'s', async t => {
  for (const words of [['-name', 'a'], ['--name', 'a'], ['-name=a'], ['--name=a']]) {
    t.equal(parse(...words).values.name, 'a', words.join(' '))
  }
  t.equal(parse('-name', '-admin').values.name, '-admin', 'a value may look like a flag')
  t.equal(parse('-name=a=b').values.name, 'a=b', 'only the first = divides')
  t.equal(parse('-admin').values.admin, true, 'a switch stands alone')
  t.equal(parse('-admin=false').values.admin, false)
  t.equal(parse('-admin=T').values.admin, true)
  t.equal(parse().values.admin, false)
  t.equal(parse().values.banned, undefined, 'a switch can tell false from absent')
  t.equal(parse('--banned=0').values.banned, false)
  t.same(parse('-dns', 'a', '--dns=b').values.dns, ['a', 'b'], 'repeated flags collect')
  t.same(parse('-audience', 'a, b', '-audience', 'c').values.audience, ['a', 'b', 'c'], 'audiences split at commas')
  t.equal(parse('FILE', '-admin').argument, 'FILE', 'flags may follow the argument')
  t.equal(parse('FILE', '-admin').values.admin, true)
  t.equal(parse('-').argument, '-', 'a lone dash is an argument')
  t.equal(parse('--', '-name').argument, '-name', 'after -- nothing is a flag')
})

void t.test('values are typed', async t => {
  t.same(parse('-selector', 'unix:path:/a:b').values.selector, [{ type: 'unix', value: 'path:/a:b' }])
  t.equal(parse('-ttl', '600').values.ttl, 600)
  t.equal(parse('-ttl', '1h30m').values.ttl, 5_400)
  t.equal(parse('-timeout', '250ms').values.timeout, 250)
  t.same(parse('-at', '2026-01-31T12:00:00+01:00').values.at, new Date('2026-01-31T11:00:00Z'))
  t.same(parse('-at', '1700000000').values.at, new Date(1_700_000_000_000))
  for (const [text, instant] of Object.entries({
    '2026-01-02 15:04:05 +0000 +00': '2026-01-02T15:04:05Z',
    '2026-01-02 15:04:05 -0700 -07': '2026-01-02T22:04:05Z',
    '2026-01-02 15:04:05 +0530 +05': '2026-01-02T09:34:05Z'
  })) t.same(parse('-at', text).values.at, new Date(instant), `SPIRE's layout: ${text}`)
  t.equal(parse('-trust-domain', 'spiffe://example.org').values['trust-domain'], 'example.org')
  const refused: Record<string, [string[], RegExp]> = {
    'unknown flag, with the nearest': [['-selecter', 'a:b'], /unknown flag -selecter; did you mean -selector\?/],
    'unknown flag without a near one': [['-zzzzzz'], /^unknown flag -zzzzzz$/],
    'a flag of the prototype': [['-constructor'], /unknown flag -constructor/],
    'value missing': [['-name'], /-name needs a value: -name TEXT/],
    'empty value': [['-name='], /-name: must not be empty/],
    'given twice': [['-name', 'a', '-name', 'b'], /-name is given twice/],
    'no SPIFFE ID': [['-spiffeID', 'https://a'], /-spiffeID: invalid SPIFFE ID .* the scheme is not spiffe/],
    'no selector': [['-selector', 'unix'], /-selector: selector "unix" has no colon/],
    'no number': [['-port', '1x'], /-port: must be a whole number of at least 1/],
    'number too small': [['-port', '0'], /-port: must be a whole number of at least 1/],
    'no duration': [['-timeout', '5'], /-timeout: must be a duration/],
    'part of a second': [['-ttl', '1500ms'], /-ttl: must be whole seconds/],
    'too many seconds': [['-ttl', '876000h'], /-ttl: must be at most 2147483647 seconds/],
    'no time': [['-at', 'yesterday'], /-at: must be a time such as/],
    'no such day': [['-at', '2026-13-01T00:00:00Z'], /-at: must be a time/],
    'no such day in SPIRE\'s layout': [['-at', '2026-13-01 00:00:00 +0000 +00'], /-at: must be a time/],
    'SPIRE\'s layout without the zone': [['-at', '2026-01-02 15:04:05 +0000'], /-at: must be a time/],
    'no choice': [['-output', 'yaml'], /-output: must be one of pretty, json/],
    'no boolean': [['-admin=yes'], /-admin: must be true or false/],
    'three dashes': [['---name'], /---name is not a flag/],
    'two arguments': [['a', 'b'], /unexpected argument "b"/]
  }
  for (const [rule, [words, message]] of Object.entries(refused)) {
    t.throws(() => parse(...words), { code: 'usage_invalid', message }, rule)
  }
})

const word = fc.oneof(
  anyText,
  fc.tuple(fc.constantFrom('-', '--', '---', ''), fc.constantFrom(...Object.keys(command.flags), '__proto__', 'constructor', 'x'),
    fc.constantFrom('', '=', '=true', '=json', '=a:b', '=spiffe://a/b', '=5s', '=1')).map(parts => parts.join('')),
  fc.constantFrom('--', '-', '=', 'json', '5', '1h', 'a:b', 'spiffe://example.org/web', 'true')
)

void t.test('any command line is read or refused', async t => {
  const known = Object.keys(command.flags)
  await holds(t, 'never a crash, never a value of a flag that does not exist', fc.property(fc.array(word, { maxLength: 8 }), words => {
    const parsed = unlessRefused('usage_invalid', () => parse(...words))
    return parsed === undefined || Object.keys(parsed.values).every(name => known.includes(name))
  }), 5_000)
  const value = anyText.filter(text => text !== '')
  await holds(t, 'a value arrives as it was given, in each form', fc.property(value, value, value, (name, dns, dns2) => {
    const forms = [
      ['-name', name, '--dns', dns, '-dns', dns2, '--', 'FILE'], [`-name=${name}`, `--dns=${dns}`, 'FILE', `-dns=${dns2}`],
      ['FILE', '--name', name, `-dns=${dns}`, '--dns', dns2]
    ]
    const expected = JSON.stringify([name, [dns, dns2], 'FILE'])
    return forms.every(words => {
      const { values, argument } = parse(...words)
      return JSON.stringify([values['name'], values['dns'], argument]) === expected
    })
  }))
  await holds(t, 'nothing after -- is a flag', fc.property(anyText, text => parse('--', text).argument === text))
})

void t.test('commands are found, explained and refused', async t => {
  const tree: CommandGroup = { summary: 'A tree.', commands: { leaf: { summary: 'A leaf', load: async () => command }, group: {
    summary: 'A group', commands: { inner: { summary: 'An inner leaf', load: async () => defineCommand({
      flags: {}, argument: { name: 'FILE' }, examples: ['assay group inner x'], run: async () => { throw new TypeError('broken inside') }
    }) } }
  }, usual: { summary: 'A group', byDefault: 'leaf', commands: { leaf: { summary: 'A leaf', load: async () => command } } } } }
  const run = async (...words: string[]) => {
    const terminal = createTestTerminal()
    const code = await runCli(tree, words, terminal)
    return { code, stdout: terminal.stdout, stderr: terminal.stderr }
  }
  t.match(await run('leaf'), { code: 0, stdout: '', stderr: '' })
  t.match(await run(), { code: 2, stdout: '', stderr: /Commands:/ }, 'no command is wrong usage')
  t.match(await run('--help'), { code: 0, stdout: /group inner +A group/ })
  t.match(await run('help', 'group', 'inner'), { code: 0, stdout: /Usage: assay group inner FILE/ })
  for (const flag of ['-h', '-help', '--help']) {
    t.match(await run('leaf', '-name', 'x', flag), { code: 0, stdout: /-selector TYPE:VALUE +selectors \(may be repeated\)/ }, flag)
  }
  t.match(await run('group', 'iner'), { code: 2, stderr: /did you mean `assay group inner`\?[^]*next: assay group --help/ })
  t.match(await run('group', 'iner', '--help'), { code: 2, stderr: /did you mean/ }, 'help for what does not exist is refused')
  t.match(await run('gro'), { code: 2, stderr: /did you mean `assay group`/ }, 'a beginning is enough to suggest')
  t.match(await run('xyzzy'), { code: 2, stderr: /commands here: leaf, group, usual/ })
  t.match(await run('group', '-x'), { code: 2, stderr: /needs a command before -x/ })
  t.match(await run('usual'), { code: 0, stdout: '', stderr: '' }, 'a group may mean one of its commands')
  t.match(await run('usual', '-name', 'x'), { code: 0, stderr: '' })
  t.match(await run('usual', '-nam', 'x'), { code: 2, stderr: /did you mean -name\?[^]*next: assay usual leaf --help/ })
  t.match(await run('usual', 'lef'), { code: 2, stderr: /did you mean `assay usual leaf`/ }, 'but words must name a command')
  t.match(await run('usual', '--help'), { code: 0, stdout: /Commands:[^]*\nWithout COMMAND: assay usual leaf\n/ })
  t.match(await run('group', 'inner'), { code: 2, stderr: /FILE is missing[^]*code: usage_invalid; a retry does not help/ })
  t.match(await run('group', 'inner', 'x'), { code: 1, stderr: /this is a bug in assay[^]*broken inside[^]*at / }, 'a bug shows its stack')
  const told = await run('leaf', '-nam', 'x', '--output', 'json')
  t.equal(told.code, 2)
  t.same(JSON.parse(told.stderr), { error: {
    code: 'usage_invalid', message: 'unknown flag -nam; did you mean -name?', next: 'assay leaf --help', retry: false
  } }, 'errors follow --output json')
})

void t.test('a stopped command ends with 130', async t => {
  const terminal = createTestTerminal()
  const waits = defineCommand({ flags: {}, examples: ['assay wait'], run: ({ terminal }) => new Promise((_, reject) => {
    terminal.signal.addEventListener('abort', () => reject(terminal.signal.reason as Error))
  }) })
  const running = runCli({ summary: '', commands: { wait: { summary: '', load: async () => waits } } }, ['wait'], terminal)
  setImmediate(() => terminal.stop())
  t.equal(await running, 130)
  t.equal(terminal.stderr, '')
})
