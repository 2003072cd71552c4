import { builtins, unavailableBuiltins, type Builtin, type BuiltinContext } from './builtins/builtins.ts'
import { parseRegoValue, printRegoValue } from './rego-value.ts'

const pageBytes = 65_536
const imports = new Set(['memory', 'opa_abort', 'opa_println', 'opa_builtin0', 'opa_builtin1', 'opa_builtin2', 'opa_builtin3',
  'opa_builtin4'])
/** OPA's parsers of JSON go down one frame of the machine's stack for each bracket. */
const maxInputDepth = 200

/** The module cannot be used, whatever it is asked; the message is for the operator. */
export class UnusableModule extends Error {}

/** What a module exports in ABI 1.2 and newer (https://www.openpolicyagent.org/docs/wasm), as far as it is used here. */
interface Exports {
  readonly opa_wasm_abi_version: WebAssembly.Global
  readonly opa_wasm_abi_minor_version: WebAssembly.Global
  builtins (): number
  entrypoints (): number
  opa_malloc (size: number): number
  opa_json_parse (address: number, length: number): number
  opa_json_dump (value: number): number
  opa_value_parse (address: number, length: number): number
  opa_value_dump (value: number): number
  opa_heap_ptr_get (): number
  opa_eval (
    reserved: number, entrypoint: number, data: number, input: number, inputLength: number, heap: number, format: number
  ): number
}

const functions = [
  'builtins', 'entrypoints', 'opa_malloc', 'opa_json_parse', 'opa_json_dump', 'opa_value_parse', 'opa_value_dump', 'opa_heap_ptr_get',
  'opa_eval'
] as const satisfies ReadonlyArray<keyof Exports>

/**
 * One instance of a policy that `opa build -t wasm` made, with its data. It can loop for ever: it belongs into a thread that somebody ends.
 * After an error out of `evaluate` the instance is spent, since nobody knows what its memory holds.
 */
export class WasmPolicy {
  /** Path such as `envoy/authz/allow` → number in this module. */
  readonly entrypoints: ReadonlyMap<string, number>
  readonly #memory: WebAssembly.Memory
  readonly #exports: Exports
  readonly #builtins: ReadonlyMap<number, Builtin>
  readonly #data: number
  readonly #heap: number
  #context: BuiltinContext = { timeNs: 0n, once: new Map() }

  /**
   * @param data JSON text of the documents under `data`
   * @param maxPages most memory, in pages of 64 KiB
   * @throws {UnusableModule} another ABI, a builtin that is not offered, data that do not fit
   */
  constructor (module: WebAssembly.Module, data: string, maxPages: number) {
    checkImports(module)
    const { memory, instance } = instantiate(module, maxPages, this.#imports())
    this.#memory = memory
    this.#exports = checkExports(instance.exports)
    const named = this.#dumpJson(this.#exports.builtins()) as Record<string, number>
    this.#builtins = new Map(Object.entries(named).map(([name, number]) => [number, builtinOf(name)]))
    this.entrypoints = new Map(Object.entries(this.#dumpJson(this.#exports.entrypoints()) as Record<string, number>))
    this.#data = this.#exports.opa_json_parse(...this.#write(data))
    if (this.#data === 0) throw new UnusableModule('the module cannot read the bundle\'s data')
    this.#heap = this.#exports.opa_heap_ptr_get()
  }

  /** How much memory it has taken, which it never gives back. */
  get memoryBytes (): number { return this.#memory.buffer.byteLength }

  /**
   * @param input JSON text; `undefined`: there is no input document
   * @returns the JSON text of OPA's result set: `[{"result": …}]`, or `[]` where the document is undefined
   * @throws whatever the module traps with
   */
  evaluate (entrypoint: number, input: string | undefined, timeNs: bigint): string {
    this.#context = { timeNs, once: new Map() }
    if (input === undefined) return this.#text(this.#exports.opa_eval(0, entrypoint, this.#data, 0, 0, this.#heap, 0))
    if (isDeep(input)) throw new Error(`the input is nested more than ${maxInputDepth} deep`)
    const length = this.#put(input, this.#heap)
    return this.#text(this.#exports.opa_eval(0, entrypoint, this.#data, this.#heap, length, this.#heap + length, 0))
  }

  #imports (): Record<string, (...words: number[]) => number> {
    const call = (number = 0, _context = 0, ...args: number[]) => this.#callBuiltin(number, args)
    return {
      opa_abort: (address = 0) => { throw new Error(`the policy gave up: ${this.#text(address)}`) },
      opa_println: () => 0,
      opa_builtin0: call, opa_builtin1: call, opa_builtin2: call, opa_builtin3: call, opa_builtin4: call
    }
  }

  /** @returns the address of the result; 0: undefined, as OPA has it for a builtin's error */
  #callBuiltin (number: number, args: readonly number[]): number {
    const builtin = this.#builtins.get(number)
    if (builtin === undefined) throw new Error(`the policy calls builtin ${number}, which it did not announce`)
    const result = builtin(args.map(address => parseRegoValue(this.#text(this.#exports.opa_value_dump(address)))), this.#context)
    return result === undefined ? 0 : this.#exports.opa_value_parse(...this.#write(printRegoValue(result)))
  }

  #dumpJson (address: number): unknown { return JSON.parse(this.#text(this.#exports.opa_json_dump(address))) }

  /** A string that ends with a zero byte; OPA's JSON escapes those inside. */
  #text (address: number): string {
    const bytes = Buffer.from(this.#memory.buffer)
    const end = bytes.indexOf(0, address)
    return bytes.toString('utf8', address, end < 0 ? bytes.length : end)
  }

  #write (text: string): [address: number, length: number] {
    const length = Buffer.byteLength(text)
    const address = this.#exports.opa_malloc(length)
    Buffer.from(this.#memory.buffer).write(text, address)
    return [address, length]
  }

  /** Writes above what the module has allocated. @returns how many bytes */
  #put (text: string, address: number): number {
    const length = Buffer.byteLength(text)
    const lacking = address + length - this.#memory.buffer.byteLength
    if (lacking > 0) this.#memory.grow(Math.ceil(lacking / pageBytes))
    return Buffer.from(this.#memory.buffer).write(text, address)
  }
}

function checkImports (module: WebAssembly.Module): void {
  const foreign = WebAssembly.Module.imports(module).find(({ module, name }) => module !== 'env' || !imports.has(name))
  if (foreign !== undefined) throw new UnusableModule(`it needs ${foreign.module}.${foreign.name}, which OPA's ABI does not have`)
}

/** Nobody but the module's bytes says how much memory it begins with, so it is tried. */
function instantiate (
  module: WebAssembly.Module, maximum: number, imports: WebAssembly.ModuleImports
): { memory: WebAssembly.Memory, instance: WebAssembly.Instance } {
  for (let initial = Math.min(8, maximum); ; initial = Math.min(initial * 2, maximum)) {
    const memory = new WebAssembly.Memory({ initial, maximum })
    try {
      return { memory, instance: new WebAssembly.Instance(module, { env: { ...imports, memory } }) }
    } catch (error) {
      if (error instanceof WebAssembly.LinkError && initial < maximum) continue
      throw new UnusableModule(`it cannot start within ${maximum * pageBytes} bytes: ${(error as Error).message}`, { cause: error })
    }
  }
}

function checkExports (exports: WebAssembly.Exports): Exports {
  const versions = [exports['opa_wasm_abi_version'], exports['opa_wasm_abi_minor_version']]
  const [major, minor] = versions.map(global => global instanceof WebAssembly.Global ? global.value : undefined)
  if (major === undefined || minor === undefined) throw new UnusableModule('it is no policy of OPA: it does not say its ABI version')
  if (major !== 1 || minor < 2) throw new UnusableModule(`its ABI is ${major}.${minor}, not 1.2 or a newer 1.x`)
  const missing = functions.find(name => typeof exports[name] !== 'function')
  if (missing !== undefined) throw new UnusableModule(`it does not export ${missing}`)
  return exports as unknown as Exports
}

function builtinOf (name: string): Builtin {
  const found = builtins.get(name)
  if (found !== undefined) return found
  const why = unavailableBuiltins.get(name) ?? 'which is not offered; see docs/rego.md for those that are'
  throw new UnusableModule(`it calls ${name}, ${why}`)
}

function isDeep (json: string): boolean {
  let depth = 0
  for (let at = 0, inString = false; at < json.length; at++) {
    const code = json.charCodeAt(at)
    if (inString) {
      if (code === 0x5c) at++
      else if (code === 0x22) inString = false
    } else if (code === 0x22) inString = true
    else if (code === 0x5b || code === 0x7b) { if (++depth > maxInputDepth) return true }
    else if (code === 0x5d || code === 0x7d) depth--
  }
  return false
}
