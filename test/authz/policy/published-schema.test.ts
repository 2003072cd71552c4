import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t from 'tap'
import { documentsIn, readPolicies } from '../../../src/authz/policy/read-policies.ts'
import { SpiffeError } from '../../../src/spiffe/errors.ts'
import { chooseSeed, Random } from '../../fakes/random.ts'
import { conformanceSets } from '../conformance/cases.ts'
import { randomDocuments } from './policies-at-random.ts'

const docs = join(import.meta.dirname, '../../../docs')
const schema = JSON.parse(readFileSync(join(docs, 'schema/policy.json'), 'utf8')) as object
/** RFC 3339. */
const instant = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$/
const isValid = new Ajv2020({ strictRequired: false, formats: { 'date-time': instant } }).compile(schema)

/** The parser's own judgement of one document. */
function isRead (document: unknown): boolean {
  try {
    readPolicies([{ name: 'test', text: JSON.stringify(document) }])
    return true
  } catch (error) {
    if (error instanceof SpiffeError && error.code === 'policy_malformed') return false
    throw error
  }
}

const own = (kind: string, fields: object) => ({ apiVersion: 'assay/v1', kind, ...fields })

t.test('what the parser reads is valid by the published schema: documents at random, of the tests and of the documentation', t => {
  const random = new Random(chooseSeed())
  const written = ['policies.md', 'rego.md'].flatMap(name =>
    [...readFileSync(join(docs, name), 'utf8').matchAll(/```yaml\n([^]*?)```/g)].map(([, yaml = '']) => yaml)
      .filter(yaml => yaml.includes('apiVersion: assay/v1')).flatMap(text => documentsIn({ name, text }).map(({ raw }) => raw)))
  const documents = [
    ...written,
    ...conformanceSets.flatMap(({ rules, more = [] }) =>
      [...rules.length === 0 ? [] : [own('Policy', { name: 'p', rules })], ...more.map(one => ({ apiVersion: 'assay/v1', ...one }))]),
    ...Array.from({ length: 100 }, () => randomDocuments(random, 12, true)).flat()
  ]
  const refused = documents.filter(document => !isValid(document))
  t.strictSame(refused.slice(0, 3).map(document => { isValid(document); return { document, errors: isValid.errors } }), [])
  t.ok(written.length >= 3 && documents.length > 300, `${written.length} of the documentation, ${documents.length} in all`)
  t.end()
})

t.test('what the schema refuses the parser refuses too, and the schema sees what an editor should tell', t => {
  const rule = (more: object) => own('Policy', { name: 'p', rules: [{ name: 'r', action: 'allow', ...more }] })
  const broken: Record<string, unknown> = {
    'no kind': { apiVersion: 'assay/v1', name: 'p', rules: [] },
    'a kind that nobody knows': own('Polici', { name: 'p', rules: [] }),
    'another version': { ...own('Policy', { name: 'p', rules: [{ name: 'r', action: 'allow' }] }), apiVersion: 'assay/v2' },
    'no name': own('Policy', { rules: [{ name: 'r', action: 'allow' }] }),
    'an action that nobody knows': own('Policy', { name: 'p', rules: [{ name: 'r', action: 'alow' }] }),
    'an unknown key': rule({ form: [] }),
    'an unknown key inside': rule({ to: [{ method: ['GET'] }] }),
    'a text instead of a list': rule({ to: [{ methods: 'GET' }] }),
    'a port that is a text': rule({ to: [{ ports: ['80'] }] }),
    'a port too far': rule({ to: [{ ports: [70_000] }] }),
    'a default that nobody knows': own('Settings', { trustDomain: 'own.test', defaultAction: 'perhaps' }),
    'no document': ['x']
  }
  for (const [what, document] of Object.entries(broken)) {
    t.notOk(isValid(document), `${what}: by the schema`)
    t.notOk(isRead(document), `${what}: by the parser`)
  }
  // One key of a valid document spoilt: the schema may let it pass, but never refuse what is read.
  const random = new Random(chooseSeed())
  let both = 0
  for (let round = 0; round < 300; round++) {
    const document = spoilt(random, random.pick(randomDocuments(random, 3, true)))
    const [valid, read] = [isValid(document), isRead(document)]
    if (read && !valid) t.fail(JSON.stringify(document))
    if (!read && !valid) both++
  }
  t.ok(both > 30, `${both} spoilt documents were refused by both`)
  t.end()
})

function spoilt (random: Random, value: unknown): unknown {
  if (Array.isArray(value)) {
    if (value.length === 0 || random.chance(0.1)) return random.pick<unknown>([{}, 'x', 7, [...value, null]])
    const at = random.below(value.length)
    return value.map((member: unknown, i) => i === at ? spoilt(random, member) : member)
  }
  if (typeof value !== 'object' || value === null) return random.pick<unknown>([7, 'x', null, [value], {}])
  const keys = Object.keys(value)
  const key = random.pick(keys)
  if (key === undefined || random.chance(0.15)) return { ...value, [random.pick(['other', `${key}s`])]: 1 }
  return { ...value, [key]: spoilt(random, (value as Record<string, unknown>)[key]) }
}
