import fc from 'fast-check'
import t from 'tap'
import { decodePem, encodePem } from '../../src/x509/pem.ts'
import { anyText } from '../fakes/arbitraries.ts'
import { holds, unlessRefused } from '../fakes/holds.ts'

const der = fc.uint8Array({ minLength: 1, maxLength: 200 })
const label = fc.constantFrom('CERTIFICATE', 'PRIVATE KEY', 'EC PRIVATE KEY')
const blocks = fc.array(fc.record({ label, der }), { maxLength: 5 })
const decode = (text: string) => unlessRefused('certificate_malformed', () => decodePem(text, 'CERTIFICATE'))
const isSame = (decoded: readonly Uint8Array[] | undefined, ders: readonly Uint8Array[]) =>
  decoded?.length === ders.length && decoded.every((bytes, index) => Buffer.compare(bytes, ders[index]!) === 0)

void t.test('PEM', async t => {
  await holds(t, 'round trip of all blocks with the label, in order', fc.property(blocks, label, (blocks, wanted) => isSame(
    decodePem(blocks.map(({ label, der }) => encodePem(label, der)).join(''), wanted),
    blocks.filter(({ label }) => label === wanted).map(({ der }) => der)
  )))
  const lineEnd = fc.constantFrom('\n', '\r\n', '\r')
  const aside = anyText.filter(text => !text.includes('-----'))
  await holds(t, 'text around a block, line ends and indents do not matter', fc.property(der, lineEnd, aside, (der, end, text) => {
    const block = encodePem('CERTIFICATE', der).split('\n').map(line => line.startsWith('-') ? line : ` ${line} `)
    return isSame(decode([text, ...block, text].join(end)), [der])
  }))
  const pemish = fc.array(fc.oneof(
    fc.constantFrom('-----BEGIN CERTIFICATE-----', '-----END CERTIFICATE-----', '-----BEGIN X-----', '-----END X-----', '-----'),
    fc.constantFrom('\n', 'AAAA', 'AA==', '='),
    anyText
  ), { maxLength: 12 }).map(parts => parts.join(''))
  await holds(t, 'anything else is read or refused, and what is read is canonical', fc.property(fc.oneof(anyText, pemish), text => {
    const decoded = decode(text)
    return decoded === undefined || decoded.every(bytes => {
      return bytes.length > 0 && text.replaceAll(/\s/g, '').includes(Buffer.from(bytes).toString('base64'))
    })
  }), 3_000)
  await holds(t, 'a block that was cut is refused, not shortened', fc.property(der, fc.nat(), (der, cut) => {
    const text = encodePem('CERTIFICATE', der)
    return decode(text.slice(0, 27 + cut % (text.length - 28))) === undefined
  }))
})
