/** A module and its data, as one thread or several hold them. */
export interface LoadedModule {
  /** For messages: which bundle it is of. */
  readonly name: string
  readonly module: WebAssembly.Module
  /** JSON text of what stands under `data`. */
  readonly data: string
}

export interface ThreadSetup {
  readonly modules: readonly LoadedModule[]
  readonly maxPages: number
  /** Two numbers, shared: how many evaluations the thread has begun in its life, and how many ended. They say which one it hangs in. */
  readonly progress: SharedArrayBuffer
}

/** What a thread says first. */
export type ThreadGreeting =
  | { readonly entrypoints: ReadonlyArray<ReadonlyMap<string, number>> }
  | { readonly refused: string }

/** One evaluation. */
export interface ThreadTask {
  readonly module: number
  readonly entrypoint: number
  /** JSON text; `undefined`: no input document. */
  readonly input: string | undefined
  readonly timeNs: bigint
}

/** OPA's result set as JSON text, or why there is none; in the order of the tasks. */
export type ThreadAnswer = { readonly text: string } | { readonly failed: string }
