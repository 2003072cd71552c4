import { NoValue, textOf, toInteger, type Builtin } from './operand.ts'

const decimal = ['k', 'm', 'g', 't', 'p', 'e']
/** Unit, in lower case, → factor. */
const byteUnits = new Map<string, bigint>([['', 1n], ...decimal.flatMap((letter, index): [string, bigint][] => {
  const thousands = 1000n ** BigInt(index + 1)
  const binary = 1024n ** BigInt(index + 1)
  return [[letter, thousands], [`${letter}b`, thousands], [`${letter}i`, binary], [`${letter}ib`, binary]]
})])

export const unitBuiltins: Readonly<Record<string, Builtin>> = {
  'units.parse_bytes': ([text]) => {
    const { number, unit } = split(textOf(text).toLowerCase())
    const factor = byteUnits.get(unit)
    if (factor === undefined) throw new NoValue()
    const { numerator, denominator } = fraction(number)
    return toInteger(numerator * factor / denominator)
  },
  'units.parse': ([text]) => {
    const { number, unit } = split(textOf(text))
    const { numerator, denominator } = fraction(number)
    const value = Number(numerator) / Number(denominator)
    if (unit === 'm') return value / 1000
    // `m` is a thousandth and `M` a million; of the other letters the case means nothing.
    const factor = unit === 'M' || !unit.startsWith('M') || unit.length > 1 ? byteUnits.get(unit.toLowerCase()) : undefined
    if (factor === undefined || /b$/i.test(unit)) throw new NoValue()
    const scaled = numerator * factor
    return scaled % denominator === 0n ? toInteger(scaled / denominator) : Number(scaled) / Number(denominator)
  }
}

function split (text: string): { number: string, unit: string } {
  const match = /^((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3}(?!\d))?)([a-z]*)$/i.exec(text.replaceAll('"', ''))
  if (match === null) throw new NoValue()
  return { number: match[1] as string, unit: match[2] as string }
}

/** @param literal such as `1.5` or `2e3` */
function fraction (literal: string): { numerator: bigint, denominator: bigint } {
  const [mantissa = '', exponent = '0'] = literal.toLowerCase().split('e')
  const [whole = '', decimals = ''] = mantissa.split('.')
  const power = Number(exponent) - decimals.length
  const digits = BigInt(`${whole}${decimals}`)
  return power >= 0 ? { numerator: digits * 10n ** BigInt(power), denominator: 1n } : { numerator: digits,
    denominator: 10n ** BigInt(-power) }
}
