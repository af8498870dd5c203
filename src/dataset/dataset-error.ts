import { CommandError } from '../runtime/failure.ts';

/** A file or a folder is not the dataset that it claims to be. The message is one sentence that names it. */
export class DatasetError extends CommandError {}
