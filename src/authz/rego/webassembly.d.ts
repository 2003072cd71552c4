/** The part of the WebAssembly JavaScript interface that is used here; `lib.dom`, which has all of it, has a browser's globals too. */
declare namespace WebAssembly {
  type ImportValue = Memory | ((...words: number[]) => number)
  type ModuleImports = Record<string, ImportValue>
  type Exports = Readonly<Record<string, unknown>>

  class Module {
    private constructor ()
    static imports (module: Module): ReadonlyArray<{ readonly module: string, readonly name: string }>
  }
  class Instance {
    constructor (module: Module, imports: Record<string, ModuleImports>)
    readonly exports: Exports
  }
  class Memory {
    constructor (limits: { readonly initial: number, readonly maximum: number })
    readonly buffer: ArrayBuffer
    grow (pages: number): number
  }
  class Global {
    readonly value: number
  }
  class LinkError extends Error {}

  function compile (bytes: Uint8Array): Promise<Module>
}
