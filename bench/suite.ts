/** One line of a result. */
export interface Row {
  readonly what: string
  /** As in `ms`, `entries/s`; what all values have. */
  readonly unit: string
  /** One for each round. */
  readonly values: readonly number[]
  /** SPIRE's for the same in the same run, round by round. */
  readonly peer?: readonly number[] | undefined
  /** SPIRE's figures for the same, lowest and highest median; measured elsewhere, in another run. */
  readonly spire?: Range | undefined
  /** Met at the stricter end, nearly met up to the other. */
  readonly budget?: Range | undefined
  readonly better?: 'lower' | 'higher'
}

export type Range = readonly [low: number, high: number]

export interface Section {
  readonly title: string
  readonly rows: readonly Row[]
  /** Sentences below the table. */
  readonly notes: readonly string[]
}

export interface SuiteOptions {
  /** Small sizes and two rounds: shows that the programs work, measures nothing. */
  readonly quick: boolean
  readonly progress: (text: string) => void
}

export type Suite = (options: SuiteOptions) => Promise<readonly Section[]>
