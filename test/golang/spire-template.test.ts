import { readFileSync } from 'node:fs'
import t from 'tap'
import type { FieldType } from '../../src/golang/template/field-type.ts'
import { parseTemplate } from '../../src/golang/template/parse-template.ts'
import { admitAny, admitInSegment, renderTemplate } from '../../src/golang/template/render-template.ts'
import { spireFunctions } from '../../src/golang/template/sprig-functions.ts'

const text = { kind: 'text' } as const
const fields: FieldType = { kind: 'record', fields: {
  CN: { json: 'CN', type: text }, OU: { json: 'OU', type: { kind: 'list', of: text } }, P: { json: 'P', type: text },
  E: { json: 'E', type: text }
} }
/** The data that SPIRE's engine was given for the table. */
const data = { CN: 'Host-1.Rack 7.example.org', OU: ['b', 'a', 'b'], P: 'a/b/../c.txt', E: '' }

function render (source: string, admit = admitAny): string {
  return renderTemplate(parseTemplate(source, fields, spireFunctions), data, admit)
}

/** What SPIRE 1.15.3's agentpathtemplate gives for each template. */
const table = JSON.parse(readFileSync(new URL('spire-template.json', import.meta.url), 'utf8')) as Record<string, string>

void t.test('templates of agents\' paths say what SPIRE\'s say', async t => {
  for (const [source, expected] of Object.entries(table)) t.equal(render(source), expected, source)
})

void t.test('what is not offered, or cannot be, is refused by name', async t => {
  const refused: Record<string, RegExp> = {
    '{{ dict "a" 1 }}': /the function dict is not offered/,
    '{{ uuidv4 }}': /the function uuidv4 is not offered/,
    '{{ env "HOME" }}': /there is no function env/,
    '{{ b64dec "!" }}': /not in base64/,
    '{{ fail "no rack" }}': /no rack/,
    '{{ first .CN }}': /needs a list/,
    '{{ upper 7 }}': /needs a text/,
    '{{ trunc .CN "a" }}': /needs a number/,
    '{{ trunc 1 }}': /trunc takes 2 arguments, and has 1/,
    '{{ .OU }}': /is no text/,
    '{{ list 1 2 }}': /a list is no text: join it/,
    '{{ index (list 1 2) 2 }}': /none with the number 2/,
    '{{ list | first }}': /nil is no text/,
    '{{ slice .OU 2 9 }}': /beyond the 3 items/,
    '{{ substr 5 999999 "abc" }}': /beyond the 3 bytes/,
    '{{ repeat 999999 .CN }}': /repeat 999999 times/,
    '{{ indent 999999 .CN }}': /repeat 999999 times/,
    '{{ repeat 9999 "abc" | replace "" "abcdefgh" }}': /longer than 65536 bytes/,
    '{{ repeat 9999 "a" | splitList "" | first }}': /more than 2048 items/,
    '{{ regexMatch "(" .CN }}': /a group is not closed/,
    '{{ regexMatch "(?=a)" .CN }}': /not offered/,
    '{{ regexMatch "^(a+)+$" "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab" }}': /takes longer than 100 ms/
  }
  for (const [source, message] of Object.entries(refused)) {
    t.throws(() => render(source), { code: /^template_(malformed|not_rendered)$/, message }, source)
  }
})

void t.test('foreign text stays in its segment, whatever is made of it', async t => {
  t.equal(render('/{{ .CN | replace " " "-" | lower }}', admitInSegment), '/host-1.rack-7.example.org')
  t.equal(render('/{{ .P | splitList "/" | join "-" }}', admitInSegment), '/a-b-..-c.txt')
  t.equal(render('/{{ .CN | nospace | splitList "." | join "/" }}', admitInSegment), '/Host-1/Rack7/example/org', 'the operator\'s slashes')
  for (const source of [
    '{{ .P }}', '{{ upper .P }}', '{{ clean .P }}', '{{ .CN | replace "." "/" }}', '{{ cat .P "x" | nospace }}', '{{ first (list .P) }}',
    '{{ default "x" .P }}', '{{ regexFind "a/b" .P }}', '{{ ternary .P "x" true }}', '{{ append .OU .P | last }}',
    '{{ quote .P | trimAll "\\"" }}'
  ]) t.throws(() => render(source, admitInSegment), { code: 'template_not_rendered', message: /\.(P|CN) holds "\/"/ }, source)
})
