import { isArray, isObject, type RegoValue } from '../rego-value.ts'

type Argument = string | number | bigint

interface Spec { readonly flags: string, readonly width: number, readonly precision: number | undefined, readonly verb: string }

/** Formats as Go's `fmt.Sprintf` does (https://pkg.go.dev/fmt); what is no number goes in as its text. Widths stop at 1000. */
export function sprintf (format: string, values: readonly RegoValue[]): string {
  const args = values.map((value): Argument => typeof value === 'number' || typeof value === 'bigint' ? value : printTerm(value, true))
  let next = 0
  let reordered = false
  const text = format.replaceAll(/%([+\-# 0]*)(\d*)(?:\.(\d*))?(?:\[(\d+)\])?(.?)/gsu,
    (_whole, flags: string, width: string, precision: string | undefined, index: string | undefined, verb: string) => {
      if (verb === '') return '%!(NOVERB)'
      if (verb === '%') return '%'
      if (index !== undefined) { next = Number(index) - 1; reordered = true }
      const arg = args[next]
      if (arg === undefined) return index === undefined ? `%!${verb}(MISSING)` : `%!${verb}(BADINDEX)`
      next++
      const digits = precision === undefined ? undefined : Math.min(Number(precision), 1000)
      return print({ flags, width: Math.min(Number(width), 1000), precision: digits, verb }, arg)
    })
  if (reordered || next >= args.length) return text
  return `${text}%!(EXTRA ${args.slice(next).map(arg => `${typeName(arg)}=${print(plain('v'), arg)}`).join(', ')})`
}

/** As OPA prints a term. @param bare whether a text stands without quotes */
function printTerm (value: RegoValue, bare = false): string {
  if (typeof value === 'string') return bare ? value : JSON.stringify(value)
  if (value === null || typeof value !== 'object') return String(value)
  if (isArray(value)) return `[${value.map(item => printTerm(item)).join(', ')}]`
  if (value instanceof Set) return value.size === 0 ? 'set()' : `{${[...value].map(item => printTerm(item as RegoValue)).join(', ')}}`
  const members: Iterable<readonly [RegoValue,
    RegoValue]> = isObject(value) ? Object.entries(value) : value as ReadonlyMap<RegoValue, RegoValue>
  return `{${[...members].map(([key, member]) => `${printTerm(key)}: ${printTerm(member)}`).join(', ')}}`
}

function plain (verb: string): Spec { return { flags: '', width: 0, precision: undefined, verb } }

function typeName (arg: Argument): string {
  if (typeof arg === 'string') return 'string'
  return isInteger(arg) ? 'int64' : 'float64'
}

function isInteger (arg: Argument): arg is number | bigint { return typeof arg === 'bigint' || Number.isInteger(arg) }

function print (spec: Spec, arg: Argument): string {
  const text = typeof arg === 'string' ? printText(spec, arg) : isInteger(arg) ? printInteger(spec, BigInt(arg)) : printFloat(spec, arg)
  return text === undefined ? `%!${spec.verb}(${typeName(arg)}=${print(plain('v'), arg)})` : pad(spec, text, typeof arg !== 'string')
}

function printText ({ verb, precision, flags }: Spec, text: string): string | undefined {
  const cut = precision === undefined ? text : Array.from(text).slice(0, precision).join('')
  if (verb === 's' || verb === 'v') return verb === 'v' && flags.includes('#') ? JSON.stringify(cut) : cut
  if (verb === 'q') return flags.includes('#') && !/[`\p{Cc}]/u.test(cut) ? `\`${cut}\`` : JSON.stringify(cut)
  const bytes = Buffer.from(text).subarray(0, precision).toString('hex')
  if (verb === 'x') return bytes
  if (verb === 'X') return bytes.toUpperCase()
  return verb === 'T' ? 'string' : undefined
}

const radix: Readonly<Record<string, readonly [number, string]>> = {
  d: [10, ''], v: [10, ''], b: [2, '0b'], o: [8, '0'], x: [16, '0x'], X: [16, '0X'], O: [8, '0o']
}

function printInteger ({ verb, flags, precision }: Spec, value: bigint): string | undefined {
  if (verb === 'T') return 'int64'
  if (verb === 'c') return String.fromCodePoint(Number(value))
  if (verb === 'q') return `'${String.fromCodePoint(Number(value))}'`
  if (verb === 'U') return `U+${value.toString(16).toUpperCase().padStart(4, '0')}`
  const form = radix[verb]
  if (form === undefined) return undefined
  const digits = (value < 0n ? -value : value).toString(form[0]).padStart(precision ?? 1, '0')
  const shown = verb === 'X' ? digits.toUpperCase() : digits
  return `${sign(flags, value < 0n)}${flags.includes('#') || verb === 'O' ? form[1] : ''}${shown}`
}

function printFloat ({ verb, flags, precision }: Spec, value: number): string | undefined {
  const size = Math.abs(value)
  const text = floatDigits(verb, size, precision)
  if (verb === 'T') return 'float64'
  return text === undefined ? undefined : `${sign(flags, value < 0)}${verb === verb.toUpperCase() ? text.toUpperCase() : text}`
}

function floatDigits (verb: string, size: number, precision: number | undefined): string | undefined {
  switch (verb.toLowerCase()) {
    case 'f': return size.toFixed(Math.min(precision ?? 6, 100))
    case 'e': return twoDigits(size.toExponential(Math.min(precision ?? 6, 100)))
    case 'g': case 'v': return general(size, precision)
    default: return undefined
  }
}

/** The shortest that reads back as the same number, or so many significant digits; with an exponent from 6 or below -4 on. */
function general (size: number, precision: number | undefined): string {
  const exponential = precision === undefined ? size.toExponential() : size.toExponential(Math.max(0, Math.min(precision, 100) - 1))
  const exponent = Number(exponential.split('e')[1])
  const digits = exponential.split('e')[0]!.replace('.', '').replace(/0+$/, '')
  const limit = precision === undefined ? 6 : Math.max(precision, 1)
  if (exponent < -4 || exponent >= limit) {
    const decimals = digits.length > 1 ? `.${digits.slice(1)}` : ''
    return twoDigits(`${digits[0] ?? '0'}${decimals}e${exponent < 0 ? '-' : '+'}${Math.abs(exponent)}`)
  }
  return String(Number(exponential))
}

function twoDigits (text: string): string { return text.replace(/e([+-])(\d)$/, 'e$10$2') }

function sign (flags: string, negative: boolean): string {
  return negative ? '-' : flags.includes('+') ? '+' : flags.includes(' ') ? ' ' : ''
}

function pad ({ flags, width }: Spec, text: string, isNumber: boolean): string {
  const missing = width - Array.from(text).length
  if (missing <= 0) return text
  if (flags.includes('-')) return text + ' '.repeat(missing)
  if (!flags.includes('0')) return ' '.repeat(missing) + text
  const signed = isNumber && /^[+\- ]/.test(text)
  return signed ? `${text[0]}${'0'.repeat(missing)}${text.slice(1)}` : '0'.repeat(missing) + text
}
