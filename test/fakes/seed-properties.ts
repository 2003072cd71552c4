import fc from 'fast-check'
import { chooseSeed } from './random.ts'

/** Loaded before each test file: properties are tried with the same values each time, see `chooseSeed`. */
fc.configureGlobal({ seed: chooseSeed() })
