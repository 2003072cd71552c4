import { cryptoBuiltins } from './crypto.ts'
import { encodingBuiltins } from './encoding.ts'
import { jwtBuiltins } from './jwt.ts'
import { networkBuiltins } from './network.ts'
import { NoValue, type Builtin } from './operand.ts'
import { regexBuiltins } from './regex.ts'
import { textBuiltins } from './text.ts'
import { timeBuiltins } from './time.ts'
import { unitBuiltins } from './units.ts'
import { valueBuiltins } from './values.ts'

export type { Builtin, BuiltinContext } from './operand.ts'

/** What the host computes for a policy; all else that is offered is compiled into the module by `opa build`. */
export const builtins: ReadonlyMap<string, Builtin> = new Map(
  [
    textBuiltins, regexBuiltins, encodingBuiltins, valueBuiltins, networkBuiltins, unitBuiltins, timeBuiltins, cryptoBuiltins, jwtBuiltins
  ].flatMap(group => Object.entries(group)).map(([name, builtin]) => [name, undefinedWithoutValue(builtin)])
)

const noNetwork = 'which asks the network: a decision must not wait for others; put what it needs into the bundle\'s data or the input'

/** Why a builtin of OPA is refused, where there is more to say than that nobody wrote it. */
export const unavailableBuiltins: ReadonlyMap<string, string> = new Map([
  ['http.send', noNetwork],
  ['net.lookup_ip_addr', noNetwork],
  ['io.jwt.encode_sign', 'which signs: a policy must not hold private keys'],
  ['io.jwt.encode_sign_raw', 'which signs: a policy must not hold private keys']
])

function undefinedWithoutValue (builtin: Builtin): Builtin {
  return (args, context) => {
    try {
      return builtin(args, context)
    } catch (error) {
      if (error instanceof NoValue) return undefined
      throw error
    }
  }
}
