import t from 'tap'
import { readEnvoyResult } from '../../../src/authz/rego/envoy-result.ts'

const bare = {
  allowed: false, headers: [], removeRequestHeaders: [], addResponseHeaders: [], body: undefined, httpStatus: undefined,
  dynamicMetadata: undefined
}

t.test('what a policy for OPA\'s Envoy plugin decides', t => {
  t.same(readEnvoyResult(true), { ...bare, allowed: true })
  t.same(readEnvoyResult(false), bare)
  t.same(readEnvoyResult({
    allowed: true, headers: { 'X-A': 'b', 'x-c': ['d', 'e'] }, response_headers_to_add: [{ 'x-f': 'g' }, { 'x-f': 'h' }],
    request_headers_to_remove: ['Authorization'], dynamic_metadata: { a: { b: 1 } }, body: 'unused', http_status: 403, reason: 'for the log'
  }), {
    ...bare, allowed: true, headers: [['x-a', 'b'], ['x-c', 'd'], ['x-c', 'e']], addResponseHeaders: [['x-f', 'g'], ['x-f', 'h']],
    removeRequestHeaders: ['authorization'], dynamicMetadata: { a: { b: 1 } }
  })
  t.same(readEnvoyResult({ allowed: false, http_status: 401, body: 'who?', headers: { 'www-authenticate': 'Bearer' },
    request_headers_to_remove: ['x'] }), {
    ...bare, httpStatus: 401, body: 'who?', headers: [['www-authenticate', 'Bearer']]
  })
  t.end()
})

t.test('anything else decides nothing', t => {
  const malformed = {
    'undefined': undefined, 'null': null, 'a text': 'true', 'a number': 1, 'an array': [true], 'nothing said': {},
    'a text for a boolean': { allowed: 'true' },
    'a number for a header': { allowed: true, headers: { a: 1 } }, 'a header with a line break': { allowed: true,
      headers: { a: 'b\r\nc: d' } },
    'a name with a line break': { allowed: true, headers: { 'a\nb': 'c' } }, 'an empty name': { allowed: true, headers: { '': 'c' } },
    'a pseudo header': { allowed: true, headers: { ':path': '/' } }, 'the host': { allowed: true, headers: { Host: 'x' } },
    'too many headers': { allowed: true, headers: Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`x-${index}`, 'y'])) },
    'a status that is none': { allowed: false, http_status: 99 }, 'a status in text': { allowed: false, http_status: '403' },
    'a long body': { allowed: false, body: 'x'.repeat(65_537) }, 'metadata that are no object': { allowed: true, dynamic_metadata: [] },
    'headers to remove that are a text': { allowed: true, request_headers_to_remove: 'x' }, 'query parameters': { allowed: true,
      query_parameters_to_set: [] }
  }
  for (const [what, result] of Object.entries(malformed)) {
    t.throws(() => readEnvoyResult(result), { code: 'rego_evaluation_failed' }, what)
  }
  t.end()
})
