package main

import (
	"context"

	"poczta.example/poczta/internal/mua"
)

// muaFolderCmd changes folders.
type muaFolderCmd struct {
	Make   muaFolderMakeCmd   `cmd:"" help:"Make a folder."`
	Rename muaFolderRenameCmd `cmd:"" help:"Rename a folder, with those in it."`
	Remove muaFolderRemoveCmd `cmd:"" help:"Remove a folder, with those in it; its letters go to Trash."`
}

// folderAccount says whose folder it is.
type folderAccount struct {
	Account string `help:"The account whose folder it is; may be left out when there is only one."`
}

type muaFolderMakeCmd struct {
	Name string `arg:"" help:"Its name; levels are parted by slashes, as in Work/Old."`
	folderAccount
}

func (c *muaFolderMakeCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.FolderMake(ctx, c.Account, c.Name)
}

type muaFolderRenameCmd struct {
	Folder string `arg:"" help:"The folder, as poczta mail folders shows it."`
	Name   string `arg:"" help:"Its new name."`
	folderAccount
}

func (c *muaFolderRenameCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.FolderRename(ctx, c.Account, c.Folder, c.Name)
}

type muaFolderRemoveCmd struct {
	Folder string `arg:"" help:"The folder, as poczta mail folders shows it."`
	folderAccount
}

func (c *muaFolderRemoveCmd) Do(ctx context.Context, d *mua.Desk) error {
	return d.FolderRemove(ctx, c.Account, c.Folder)
}
