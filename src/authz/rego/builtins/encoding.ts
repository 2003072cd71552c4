import { parseYaml } from '../../../runtime/yaml-text.ts'
import { isArray, isObject, isSet, type RegoObject, type RegoValue } from '../rego-value.ts'
import { NoValue, objectOf, textOf, type Builtin } from './operand.ts'

export const encodingBuiltins: Readonly<Record<string, Builtin>> = {
  'hex.encode': ([text]) => Buffer.from(textOf(text)).toString('hex'),
  'hex.decode': ([text]) => {
    const digits = textOf(text)
    if (digits.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(digits)) throw new NoValue()
    return Buffer.from(digits, 'hex').toString()
  },
  'base64url.encode_no_pad': ([text]) => Buffer.from(textOf(text)).toString('base64url'),
  'urlquery.encode': ([text]) => encode(textOf(text)),
  'urlquery.decode': ([text]) => decode(textOf(text)),
  'urlquery.encode_object': ([object]) => byName(objectOf(object)).flatMap(([name, value]) => {
    const several = isArray(value) || isSet(value) ? [...value] : [value]
    return several.map(one => `${encode(name)}=${encode(textOf(one))}`)
  }).join('&'),
  'urlquery.decode_object': ([text]) => {
    const found = Object.create(null) as Record<string, string[]>
    for (const pair of textOf(text).split('&').filter(pair => pair !== '')) {
      if (pair.includes(';')) throw new NoValue()
      const at = pair.indexOf('=')
      const name = decode(at < 0 ? pair : pair.slice(0, at));
      (found[name] ??= []).push(at < 0 ? '' : decode(pair.slice(at + 1)))
    }
    return found
  },
  'yaml.is_valid': ([text]) => typeof text === 'string' && readYaml(text) !== undefined,
  'yaml.unmarshal': ([text]) => readYaml(textOf(text)),
  'json.marshal_with_options': ([value, options]) => {
    const { pretty, indent, prefix } = objectOf(options)
    const indentation = pretty === false ? undefined : typeof indent === 'string' ? indent : '\t'
    const text = JSON.stringify(toJson(value as RegoValue), undefined, indentation)
    return typeof prefix === 'string' ? text.split('\n').map(line => `${prefix}${line}`).join('\n') : text
  }
}

function byName (object: RegoObject): [string,
  RegoValue][] { return Object.entries(object).toSorted(([a], [b]) => a < b ? -1 : a > b ? 1 : 0) }

function encode (text: string): string {
  const escaped = encodeURIComponent(text).replaceAll(/[!'()*]/g, character => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
  return escaped.replaceAll('%20', '+')
}

function decode (text: string): string {
  if (/%(?![0-9a-f]{2})/i.test(text)) throw new NoValue()
  const bytes: number[] = []
  const source = Buffer.from(text)
  for (let at = 0; at < source.length; at++) {
    const byte = source[at] as number
    if (byte === 0x25) {
      bytes.push(parseInt(source.toString('latin1', at + 1, at + 3), 16))
      at += 2
    } else bytes.push(byte === 0x2b ? 0x20 : byte)
  }
  return Buffer.from(bytes).toString()
}

function readYaml (text: string): RegoValue | undefined {
  const documents = parseYaml('yaml', text)
  return 'problems' in documents || documents.length !== 1 ? undefined : documents[0]!.raw as RegoValue
}

/** Names in their order, as Go writes them. */
function toJson (value: RegoValue): unknown {
  if (isArray(value) || isSet(value)) return [...value].map(toJson)
  if (typeof value === 'bigint') throw new NoValue()
  if (!isObject(value)) return value
  return Object.fromEntries(byName(value).map(([name, member]) => [name, toJson(member)]))
}
